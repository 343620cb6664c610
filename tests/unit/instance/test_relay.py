# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands between a command and the agent that waits for its output."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from urllib.parse import unquote

import pytest

from incus_testbed.instance import scripts

_LIMIT = 20


def _run(
    text: str, *, stdin: bytes = b""
) -> "subprocess.CompletedProcess[bytes]":
    """Run a shell script under the relay."""
    return subprocess.run(
        scripts.relayed(["sh", "-c", text]),
        input=stdin,
        capture_output=True,
        timeout=_LIMIT,
        check=False,
    )


@pytest.mark.parametrize("wrap", [list, scripts.relayed])
def test_commands_outlive_what_autopkgtest_does_to_them(
    wrap: Callable[[list[str]], list[str]],
) -> None:
    words = wrap(scripts.for_autopkgtest(scripts.logged_in("exec.pl", "254")))
    assert list(map(unquote, ",".join(words).split(","))) == words


@pytest.mark.parametrize("status", [0, 1, 125, 253, 255])
def test_status(status: int) -> None:
    assert _run(f"exit {status}").returncode == status


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_death_by_signal(number: int) -> None:
    assert _run(f"kill -{int(number)} $$").returncode == 128 + number


def test_input_and_both_outputs() -> None:
    done = _run("cat; echo err >&2", stdin=b"in\0\xff")
    assert (done.stdout, done.stderr) == (b"in\0\xff", b"err\n")


def test_all_of_a_big_output_comes() -> None:
    data = os.urandom(3 << 20)
    assert _run("cat", stdin=data).stdout == data


@pytest.mark.parametrize(
    "daemon", ["sleep 30 &", "setsid -f sleep 30;", "sleep 30 >&2 &"]
)
def test_a_daemon_that_keeps_the_output_open_holds_nobody_up(
    daemon: str,
) -> None:
    began = time.monotonic()
    done = _run(f"echo out; {daemon} exit 7")
    assert time.monotonic() - began < 10
    assert (done.returncode, done.stdout) == (7, b"out\n")


def test_a_command_that_closes_its_output_goes_on() -> None:
    assert _run("exec >&- 2>&-; sleep 0.5; exit 4").returncode == 4


def _start(text: str) -> "subprocess.Popen[bytes]":
    """Start a shell script under the relay; it has begun when this returns."""
    child = subprocess.Popen(
        scripts.relayed(["sh", "-c", f"echo begun; {text}"]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert child.stdout
    assert child.stdout.readline() == b"begun\n"
    return child


def test_a_signal_reaches_the_command() -> None:
    with _start("trap 'exit 3' TERM; while :; do sleep 0.1; done") as child:
        time.sleep(0.2)  # until the trap is set
        child.send_signal(signal.SIGTERM)
        assert child.wait(_LIMIT) == 3


def test_the_command_does_not_outlive_the_relay() -> None:
    with _start("echo $$; exec sleep 1000") as child:
        assert child.stdout
        pid = int(child.stdout.readline())
        child.kill()
        child.wait(_LIMIT)
        deadline = time.monotonic() + _LIMIT
        while _is_alive(pid):
            assert time.monotonic() < deadline
            time.sleep(0.05)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_reader_that_is_gone_ends_the_command() -> None:
    with _start("exec yes") as child:
        assert child.stdout
        child.stdout.close()
        assert child.wait(_LIMIT) == 128 + signal.SIGPIPE
