# SPDX-License-Identifier: GPL-3.0-or-later
"""The task that a thread runs, and whether its result is still wanted.

Debusine runs a task in one thread and tells it from another that its work
request was aborted.  The executor is not told which task it works for.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Protocol

from incus_testbed import errors


class Abortable(Protocol):
    """Debusine's BaseTask, as far as it matters here."""

    @property
    def aborted(self) -> bool:
        """Whether somebody has called abort()."""


class Aborted(errors.TestbedError):
    """The work request was aborted while something was done for it."""


class _Current(threading.local):
    task: Abortable | None = None


_current = _Current()


@contextlib.contextmanager
def running(task: Abortable) -> Iterator[None]:
    """Have this thread run a task for as long as the block."""
    _current.task = task
    try:
        yield
    finally:
        _current.task = None


def check() -> None:
    """Return if the result of this thread's task is wanted.

    :raises Aborted: it is not
    """
    if _current.task and _current.task.aborted:
        raise Aborted("The work request was aborted")
