# SPDX-License-Identifier: GPL-3.0-or-later
"""End a program that has taken too long, or that waits in vain."""

import logging
import threading
import time
from collections.abc import Callable

from incus_testbed import errors

log = logging.getLogger(__name__)

#: Tells why a program waits in vain; None as long as it may not.  It is asked
#: in a thread of its own, and raises nothing.
Doubt = Callable[[], errors.TestbedError | None]

#: Seconds before a doubt is asked for the first time, and between two answers.
FIRST_LOOK = 10.0
NEXT_LOOK = 5.0


class Guard:
    """A thread that looks after a running program until it is released.

    ``error`` is why the program was killed; None if it was not.
    """

    def __init__(
        self,
        kill: Callable[[], None],
        expired: errors.TimedOut,
        timeout: float,
        doubt: Doubt | None,
    ) -> None:
        """Look after it from now on, for ``timeout`` seconds."""
        self.error: errors.TestbedError | None = None
        self._kill = kill
        self._expired = expired
        self._deadline = time.monotonic() + timeout
        self._doubt = doubt
        self._released = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def release(self) -> None:
        """Leave the program alone: it has ended."""
        self._released.set()

    def _watch(self) -> None:
        pause = FIRST_LOOK
        while (left := self._deadline - time.monotonic()) > 0:
            if self._released.wait(min(left, pause) if self._doubt else left):
                return
            if left > pause and (error := self._asked()):
                self._end(error)
                return
            pause = NEXT_LOOK
        self._end(self._expired)

    def _asked(self) -> errors.TestbedError | None:
        """Return what the doubt says; the limit stands even if that fails."""
        try:
            return self._doubt() if self._doubt else None
        except Exception:
            log.exception("whether it waits in vain is not known")
            self._doubt = None
            return None

    def _end(self, error: errors.TestbedError) -> None:
        if not self._released.is_set():
            self.error = error
            self._kill()
