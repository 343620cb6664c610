# SPDX-License-Identifier: GPL-3.0-or-later
"""Handle signals that end the server."""

import os
import signal
from typing import NoReturn

from incus_testbed.process import signals

_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)


class Interrupted(BaseException):
    """A signal told this process to end."""

    def __init__(self, number: int) -> None:
        """Keep the signal's number."""
        super().__init__(number)
        self.number = number

    def die(self) -> None:
        """End this process by the signal, as if it had not been caught."""
        signal.signal(self.number, signal.SIG_DFL)
        os.kill(os.getpid(), self.number)


def catch() -> None:
    """Let signals raise Interrupted, so that the server can clean up."""
    # Python ignores SIGPIPE by itself; it was not our caller who wanted that.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signals.catch(_interrupt, *_SIGNALS)


def ignore() -> None:
    """Ignore the signals, so that they don't interrupt the clean-up."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _interrupt(number: int) -> NoReturn:
    ignore()
    raise Interrupted(number)
