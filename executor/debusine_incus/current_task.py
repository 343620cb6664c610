# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep the task that a thread runs, and check whether it was aborted.

Debusine runs a task in one thread, and aborts it from another.  The executor
is not told which task it works for.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Protocol

from incus_testbed import errors


class Abortable(Protocol):
    """The part of Debusine's BaseTask that is used here."""

    @property
    def aborted(self) -> bool:
        """Whether abort() was called."""


class Aborted(errors.TestbedError):
    """The work request was aborted while the executor worked for it."""


class _Current(threading.local):
    task: Abortable | None = None


_current = _Current()


@contextlib.contextmanager
def running(task: Abortable) -> Iterator[None]:
    """Make a task the current one of this thread, during the block."""
    _current.task = task
    try:
        yield
    finally:
        _current.task = None


def check() -> None:
    """Check that this thread's task was not aborted.

    :raises Aborted: it was
    """
    if _current.task and _current.task.aborted:
        raise Aborted("The work request was aborted")
