# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands that end late, never, or leave something behind."""

import os
import signal
import subprocess
import threading
import time
from types import FrameType

import pytest
from debusine.tasks.executors.base import InstanceInterface

from .guest import Guest
from .pace import PACE

#: Seconds that a call may take beyond the time limit it was given.
_SLACK = 20 * PACE

#: How a command can be hard to end; $1 is how long it sleeps.
_CLINGING = {
    "plain": 'exec sleep "$1"',
    "child": 'sleep "$1"; :',
    "grandchild": 'sh -c \'sleep "$1"; :\' sh "$1"; :',
    "deaf": 'trap "" HUP INT TERM; sleep "$1"; :',
    "stopped": 'kill -STOP $$; : "$1"',
    "session": 'setsid -f sleep "$1"; sleep "$1"; :',
    "daemon": 'setsid -f sleep "$1" <&- >/dev/null 2>&1; sleep "$1"; :',
    "bare": 'env -i setsid -f sleep "$1"; sleep "$1"; :',
}

_ROOT_OR_USER = pytest.mark.parametrize(
    "run_as_root", [True, False], ids=["root", "user"]
)


def _args(script: str, mark: str) -> list[str]:
    return ["sh", "-c", script, "sh", mark]


class _Aborted(Exception):
    """What a caller of Debusine's may raise from a signal handler."""


def test_time_limit(instance: InstanceInterface, mark: str) -> None:
    args = _args('echo out; echo err >&2; sleep "$1"; :', mark)
    limit = 2 * PACE
    started = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired) as caught:
        instance.run(args, timeout=limit)
    assert limit <= time.monotonic() - started < limit + _SLACK
    error = caught.value
    assert error.cmd == args
    assert error.timeout == limit
    assert (error.stdout, error.stderr) == (b"out\n", b"err\n")


def test_time_limit_that_is_kept(instance: InstanceInterface) -> None:
    done = instance.run(["echo", "x"], timeout=30 * PACE)
    assert (done.returncode, done.stdout) == (0, b"x\n")


@pytest.mark.parametrize("kind", _CLINGING)
def test_nothing_is_left_after_the_time_limit(
    instance: InstanceInterface, guest: Guest, mark: str, kind: str
) -> None:
    with pytest.raises(subprocess.TimeoutExpired):
        instance.run(_args(_CLINGING[kind], mark), timeout=PACE)
    assert guest.wait_until_gone(mark) == []


def test_nothing_of_roots_is_left_after_the_time_limit(
    instance: InstanceInterface, guest: Guest, mark: str
) -> None:
    args = _args(_CLINGING["session"], mark)
    with pytest.raises(subprocess.TimeoutExpired):
        instance.run(args, run_as_root=True, timeout=PACE)
    assert guest.wait_until_gone(mark) == []


def test_a_time_limit_spares_other_commands(
    instance: InstanceInterface, guest: Guest, mark: str
) -> None:
    instance.run(_args('setsid -f sleep "$1" >/dev/null 2>&1', mark))
    before = guest.pids(mark)
    with pytest.raises(subprocess.TimeoutExpired):
        instance.run(["sleep", "1000"], timeout=PACE)
    assert guest.pids(mark) == before


def _interrupt_once_running(guest: Guest, mark: str, number: int) -> None:
    """Send a signal to this process as soon as the guest's is there."""

    def wait_and_send() -> None:
        guest.wait_for(mark)
        os.kill(os.getpid(), number)

    threading.Thread(target=wait_and_send, daemon=True).start()


def test_nothing_is_left_after_keyboard_interrupt(
    instance: InstanceInterface, guest: Guest, mark: str
) -> None:
    _interrupt_once_running(guest, mark, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        instance.run(_args(_CLINGING["session"], mark))
    assert guest.wait_until_gone(mark) == []


def test_nothing_is_left_after_an_exception(
    instance: InstanceInterface, guest: Guest, mark: str
) -> None:
    def abort(number: int, frame: FrameType | None) -> None:
        del number, frame
        raise _Aborted

    before = signal.signal(signal.SIGUSR1, abort)
    try:
        _interrupt_once_running(guest, mark, signal.SIGUSR1)
        with pytest.raises(_Aborted):
            instance.run(_args(_CLINGING["session"], mark))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert guest.wait_until_gone(mark) == []


def test_nothing_is_left_after_ctrl_c_at_a_terminal(
    instance: InstanceInterface, guest: Guest, mark: str
) -> None:
    """All processes of the caller's group get the signal."""
    child = os.fork()
    if not child:
        os.setpgid(0, 0)
        interrupted = False
        try:
            instance.run(_args(_CLINGING["session"], mark))
        except KeyboardInterrupt:
            interrupted = True
        finally:
            os._exit(0 if interrupted else 1)
    try:
        guest.wait_for(mark)
    finally:
        os.killpg(child, signal.SIGINT)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    assert guest.wait_until_gone(mark) == []


@_ROOT_OR_USER
@pytest.mark.parametrize(
    "script",
    [
        'sleep "$1" & echo done',
        'setsid -f sleep "$1"; echo done',
        'setsid -f sleep "$1" <&- >/dev/null 2>&1; echo done',
    ],
    ids=["background", "session", "daemon"],
)
def test_what_a_command_leaves_running_goes_on(
    instance: InstanceInterface,
    guest: Guest,
    mark: str,
    script: str,
    run_as_root: bool,
) -> None:
    started = time.monotonic()
    done = instance.run(_args(script, mark), run_as_root=run_as_root)
    assert time.monotonic() - started < _SLACK
    assert done.stdout == b"done\n"
    assert len(guest.pids(mark)) == 1
