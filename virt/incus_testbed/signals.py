# SPDX-License-Identifier: GPL-3.0-or-later
"""Signals that tell this process to end, raised where that works."""

import contextlib
import functools
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from sys import UnraisableHookArgs

_AGAIN = "_incus_testbed_again"  # what an exception of ours does once dropped
_PAUSE = 0.01  # seconds: what dropped it has ended by then, mostly


class _Hold:
    """Whether signals have to wait, and the first one that does."""

    on = False
    waiting: Callable[[], NoReturn] | None = None


def catch(
    interrupt: Callable[[int], NoReturn], *numbers: signal.Signals
) -> None:
    """Have these signals call ``interrupt``, which raises.

    A signal that is ignored stays so: whoever started this process (nohup)
    wanted that. What is raised where Python drops exceptions, in a __del__ or
    a weak reference's callback, is raised again soon after.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        del frame
        if _Hold.on:
            _Hold.waiting = _Hold.waiting or functools.partial(
                interrupt, number
            )
            return
        try:
            interrupt(number)
        except BaseException as raised:
            vars(raised)[_AGAIN] = functools.partial(again, number)
            raise

    def again(number: int) -> None:
        signal.signal(number, handle)  # interrupt() may have it ignored
        main = threading.main_thread().ident
        threading.Timer(_PAUSE, signal.pthread_kill, [main, number]).start()

    sys.unraisablehook = functools.partial(_unraisable, sys.unraisablehook)
    for number in numbers:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, handle)


def _unraisable(
    others: "Callable[[UnraisableHookArgs], object]",
    unraisable: "UnraisableHookArgs",
) -> None:
    again = getattr(unraisable.exc_value, _AGAIN, None)
    if again:
        again()
    else:
        others(unraisable)


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
