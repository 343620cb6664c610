# SPDX-License-Identifier: GPL-3.0-or-later
"""Turn signals into exceptions, at a moment when that is safe."""

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

#: An attribute of our exceptions: sends the signal again if Python drops them.
_AGAIN = "_incus_testbed_again"
#: Seconds: the code that dropped the exception has ended by then, usually even
#: where others use all processors.
_PAUSE = 0.1


class _Hold:
    """Whether signals have to wait, and the first signal that waits."""

    on = False
    waiting: Callable[[], NoReturn] | None = None


def catch(
    interrupt: Callable[[int], NoReturn], *numbers: signal.Signals
) -> None:
    """Have these signals call ``interrupt``, which raises.

    A signal that is ignored stays ignored: the program that started this
    process (nohup) wanted that.  Python drops an exception that is raised in a
    __del__ or a weak reference's callback; it is raised again soon after.
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
        signal.signal(number, handle)  # interrupt() may have set SIG_IGN
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
    """Delay signals until the end of the block, which starts a process.

    If a signal raises an exception within os.fork, Python prints and drops it
    in the callbacks of os.register_at_fork (logging has some).  And the caller
    has to end the process that it has started, so it has to know it first.
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
