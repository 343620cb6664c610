# SPDX-License-Identifier: GPL-3.0-or-later
"""Signals that tell this process to end, raised where that works."""

import contextlib
import functools
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn


class _Hold:
    """Whether signals have to wait, and the first one that does."""

    on = False
    waiting: Callable[[], NoReturn] | None = None


def catch(
    interrupt: Callable[[int], NoReturn], *numbers: signal.Signals
) -> None:
    """Have these signals call ``interrupt``, which raises.

    A signal that is ignored stays so: whoever started this process (nohup)
    wanted that.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if not _Hold.on:
            interrupt(number)
        _Hold.waiting = _Hold.waiting or functools.partial(interrupt, number)

    for number in numbers:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handle)


@contextlib.contextmanager
def held() -> Iterator[None]:
    """Have signals wait for the end of the block, which starts a process.

    What is raised within os.fork is printed and dropped, by the callbacks of
    os.register_at_fork (logging has some); and a process that has just been
    started is its starter's to end, who has to learn of it first.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are not handled in this thread
        return
    _Hold.on = True
    try:
        yield
    finally:
        _Hold.on = False
        interrupt, _Hold.waiting = _Hold.waiting, None
        if interrupt:
            interrupt()
