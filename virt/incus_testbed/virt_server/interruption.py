# SPDX-License-Identifier: GPL-3.0-or-later
"""Signals that tell the server to end."""

import os
import signal
from typing import NoReturn

from incus_testbed import signals

_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)


class Interrupted(BaseException):
    """A signal told this process to end."""

    def __init__(self, number: int) -> None:
        """Keep the signal's number."""
        super().__init__(number)
        self.number = number

    def die(self) -> None:
        """End as the signal would have ended this process."""
        signal.signal(self.number, signal.SIG_DFL)
        os.kill(os.getpid(), self.number)


def catch() -> None:
    """Have signals raise Interrupted, so that nothing is left half-way."""
    # That it is ignored is Python's doing, not that of who started it.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signals.catch(_interrupt, *_SIGNALS)


def ignore() -> None:
    """Let nothing interrupt what follows: cleaning up."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _interrupt(number: int) -> NoReturn:
    ignore()
    raise Interrupted(number)
