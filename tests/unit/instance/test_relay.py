# SPDX-License-Identifier: GPL-3.0-or-later
"""What stands between a command and Incus, which waits for its output."""

import os
import select
import signal
import subprocess
import time
from collections.abc import Callable
from urllib.parse import unquote

import pytest

from incus_testbed.instance import scripts

_LIMIT = 20


_Wrap = Callable[[list[str]], list[str]]


def _attended(words: list[str]) -> list[str]:
    """Return what runs a command in a container, without its login."""
    parts = [*map(scripts.text, ("drain.pl", "attend.pl")), "attend(@ARGV)"]
    return ["perl", "-e", "\n".join(parts), *words]


both = pytest.mark.parametrize("wrap", [scripts.relayed, _attended])


def _run(
    text: str, *, stdin: bytes = b"", wrap: _Wrap = scripts.relayed
) -> "subprocess.CompletedProcess[bytes]":
    """Run a shell script under the relay, or under attend.pl."""
    return subprocess.run(
        wrap(["sh", "-c", text]),
        input=stdin,
        capture_output=True,
        timeout=_LIMIT,
        check=False,
    )


@pytest.mark.parametrize("wrap", [list, scripts.relayed])
def test_commands_outlive_what_autopkgtest_does_to_them(
    wrap: _Wrap,
) -> None:
    words = wrap(
        scripts.for_autopkgtest(
            scripts.logged_in("exec.pl", "254", attended=True)
        )
    )
    assert list(map(unquote, ",".join(words).split(","))) == words


@both
@pytest.mark.parametrize("status", [0, 1, 125, 253, 255])
def test_status(status: int, wrap: _Wrap) -> None:
    assert _run(f"exit {status}", wrap=wrap).returncode == status


@both
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_death_by_signal(number: int, wrap: _Wrap) -> None:
    done = _run(f"kill -{int(number)} $$", wrap=wrap)
    assert done.returncode == 128 + number


@both
def test_input_and_both_outputs(wrap: _Wrap) -> None:
    done = _run("cat; echo err >&2", stdin=b"in\0\xff", wrap=wrap)
    assert (done.stdout, done.stderr) == (b"in\0\xff", b"err\n")


@both
def test_all_of_a_big_output_comes(wrap: _Wrap) -> None:
    data = os.urandom(3 << 20)
    assert _run("cat", stdin=data, wrap=wrap).stdout == data


@pytest.mark.parametrize("redirection", ["", ">&2"])
def test_it_does_not_end_before_its_output_is_taken(redirection: str) -> None:
    with subprocess.Popen(
        _attended(["sh", "-c", f"echo done {redirection}; exit 5"]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as child:
        with pytest.raises(subprocess.TimeoutExpired):
            child.wait(1)
        assert b"done\n" in child.communicate(timeout=_LIMIT)
        assert child.returncode == 5


def test_output_that_nobody_takes_holds_nobody_up_for_long() -> None:
    with subprocess.Popen(
        _attended(["echo", "done"]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.wait(_LIMIT) == 0


def test_input_that_the_command_has_closed_is_closed() -> None:
    with subprocess.Popen(
        _attended(["sh", "-c", "exec <&-; echo closed; exec sleep 1000"]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    ) as child:
        assert child.stdin
        assert child.stdout
        assert child.stdout.readline() == b"closed\n"
        closed = select.poll()
        closed.register(child.stdin, 0)  # POLLERR alone
        assert closed.poll(_LIMIT * 1000)
        child.kill()


def test_a_path_without_our_programs_is_the_commands_alone() -> None:
    done = subprocess.run(
        ["/usr/bin/perl", *_attended(["/bin/echo", "done"])[1:]],
        env={"PATH": "/nowhere"},
        capture_output=True,
        timeout=_LIMIT,
        check=False,
    )
    assert (done.stdout, done.stderr) == (b"done\n", b"")


def test_one_process_has_the_words_of_the_command() -> None:
    done = subprocess.run(
        _attended(["sh", "-c", "cd /proc/$PPID; cat cmdline comm"]),
        capture_output=True,
        timeout=_LIMIT,
        check=False,
    )
    cmdline, comm = done.stdout.rstrip(b"\n").rsplit(b"\0", 1)
    assert [cmdline.rstrip(b"\0"), comm] == [b"incus-testbed"] * 2


@pytest.mark.parametrize(
    ("words", "status"),
    [(["/"], 126), (["no-such-program"], 127), (["type", "type"], 0)],
)
def test_a_command_that_is_no_program(words: list[str], status: int) -> None:
    done = subprocess.run(
        _attended(words), capture_output=True, timeout=_LIMIT, check=False
    )
    assert done.returncode == status
    assert done.stdout if status == 0 else done.stderr


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


@both
def test_a_command_that_closes_its_output_goes_on(wrap: _Wrap) -> None:
    done = _run("exec >&- 2>&-; sleep 0.5; exit 4", wrap=wrap)
    assert done.returncode == 4


def _start(text: str, wrap: _Wrap) -> "subprocess.Popen[bytes]":
    """Start a shell script so; it has begun when this returns."""
    child = subprocess.Popen(
        wrap(["sh", "-c", f"echo begun; {text}"]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
    )
    assert child.stdout
    assert child.stdout.readline() == b"begun\n"
    return child


@both
def test_a_signal_reaches_the_command(wrap: _Wrap) -> None:
    loop = "trap 'exit 3' TERM; while :; do sleep 0.1; done"
    with _start(loop, wrap) as child:
        time.sleep(0.2)  # until the trap is set
        child.send_signal(signal.SIGTERM)
        assert child.wait(_LIMIT) == 3


@both
def test_the_command_does_not_outlive_it(wrap: _Wrap) -> None:
    with _start("echo $$; exec sleep 1000", wrap) as child:
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


@both
def test_a_reader_that_is_gone_ends_the_command(wrap: _Wrap) -> None:
    with _start("exec yes", wrap) as child:
        assert child.stdout
        child.stdout.close()
        assert child.wait(_LIMIT) == 128 + signal.SIGPIPE
