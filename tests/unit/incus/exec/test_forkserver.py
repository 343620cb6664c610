# SPDX-License-Identifier: GPL-3.0-or-later
"""What callers of the forkserver can do to it, and it to them.

How it runs sessions is in test_exec.py, beside those that are programs.
"""

import contextlib
import errno
import os
import pty
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from incus_testbed.incus.exec import forked
from incus_testbed.incus.exec.address import UnixAddress
from incus_testbed.incus.exec.forkserver import Forkserver as Server
from incus_testbed.incus.location import session_argv
from incus_testbed.virt_server import command
from tests.support import forkservers
from tests.support.fake_incusd import (
    BINARY,
    END,
    Incusd,
    Stream,
    frame,
    wait_for,
)
from tests.support.forkservers import Running

_LIMIT = 60


@pytest.fixture
def forkserver() -> Iterator[Running]:
    with forkservers.running() as server:
        yield server


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "socket"


def _start(
    path: Path, name: str, stdin: int = subprocess.DEVNULL
) -> "subprocess.Popen[bytes]":
    argv = session_argv(
        UnixAddress(str(path)),
        "default",
        "box",
        ["true"],
        program=command.program(name),
    )
    return subprocess.Popen(
        argv, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def _status(path: Path, name: str) -> int:
    with _start(path, name) as child:
        child.communicate(timeout=_LIMIT)
        return child.returncode


@contextlib.contextmanager
def _endless(path: Path) -> Iterator[Incusd]:
    """Have a daemon whose command goes on until its caller goes."""
    server = Incusd(
        path,
        stdout=Stream([frame(BINARY, b"begun\n")], stay=True),
        stderr=Stream([END], stay=True),
    )
    try:
        yield server
    finally:
        server.close()


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def _began(child: "subprocess.Popen[bytes]") -> bool:
    assert child.stdout
    return child.stdout.readline() == b"begun\n"


def test_commands_at_the_same_time(forkserver: Running, path: Path) -> None:
    server = Incusd(path, status=3)
    running = [_start(path, forkserver.name) for _ in range(8)]
    for child in running:
        assert child.communicate(timeout=_LIMIT) == (b"", b"")
    server.close()
    assert {child.returncode for child in running} == {3}
    wait_for(lambda: not _children(forkserver.pid))


def test_caller_that_is_killed_ends_its_command(
    forkserver: Running, path: Path
) -> None:
    with _endless(path):
        child = _start(path, forkserver.name)
        other = _start(path, forkserver.name)
        assert _began(child)
        assert _began(other)
        child.kill()
        child.communicate(timeout=_LIMIT)
        wait_for(lambda: len(_children(forkserver.pid)) == 1)
        assert other.poll() is None
        other.kill()
        other.communicate(timeout=_LIMIT)
        wait_for(lambda: not _children(forkserver.pid))


def test_session_that_is_killed_is_a_failure(
    forkserver: Running, path: Path
) -> None:
    with _endless(path):
        child = _start(path, forkserver.name)
        assert _began(child)
        other = _start(path, forkserver.name)
        assert _began(other)
        first, _ = _children(forkserver.pid)
        os.kill(int(first), signal.SIGKILL)
        _, said = child.communicate(timeout=_LIMIT)
        assert (child.returncode, said.count(b"\n")) == (255, 1)
        assert b"was killed" in said
        other.kill()
        other.communicate(timeout=_LIMIT)


def test_killed_forkserver_is_a_failure_and_then_not_needed(
    forkserver: Running, path: Path
) -> None:
    with _endless(path):
        child = _start(path, forkserver.name)
        assert _began(child)
        sessions = _children(forkserver.pid)
        os.kill(forkserver.pid, signal.SIGKILL)
        wait_for(lambda: not forkservers.listens(forkserver.name))
        for session in sessions:
            os.kill(int(session), signal.SIGKILL)
        child.communicate(timeout=_LIMIT)
        assert child.returncode == 255
    path.unlink()
    server = Incusd(path, status=7)
    assert _status(path, forkserver.name) == 7
    server.close()


@pytest.mark.parametrize("killed", [True, False])
def test_ends_when_its_owner_does(killed: bool) -> None:
    with forkservers.running() as forkserver:
        if killed:
            forkserver.owner.kill()
        else:
            forkserver.owner.communicate(timeout=_LIMIT)
        wait_for(lambda: not forkservers.listens(forkserver.name))


def test_what_has_begun_goes_on_when_the_owner_ends(
    forkserver: Running, path: Path
) -> None:
    done: list[bool] = []
    server = Incusd(
        path,
        stdout=Stream([frame(BINARY, b"begun\n")]),
        stderr=Stream([END], once=lambda: done),
    )
    server._streams["1"].parts.append(END)
    child = _start(path, forkserver.name)
    assert _began(child)
    forkserver.owner.kill()
    wait_for(lambda: not forkservers.listens(forkserver.name))
    done.append(True)
    child.communicate(timeout=_LIMIT)
    server.close()
    assert child.returncode == 0
    wait_for(lambda: not Path(f"/proc/{forkserver.pid}").exists())


def test_has_none_of_its_owners_files(forkserver: Running) -> None:
    opened = {
        each.name: str(each.readlink())
        for each in Path(f"/proc/{forkserver.pid}/fd").iterdir()
    }
    assert opened["1"] == opened["2"] == os.devnull
    assert sum(each.startswith("pipe:") for each in opened.values()) == 1


@pytest.mark.parametrize(
    "request_of_a_stranger",
    [
        b"",
        b"\0",
        b"\xff\xff\xff\x7f",
        (4).to_bytes(4, sys.byteorder) + b"a\0b\0",
        (1 << 20).to_bytes(4, sys.byteorder) + b"short",
    ],
)
@pytest.mark.parametrize("streams", [(), (0, 0, 0)])
def test_request_that_makes_no_sense(
    forkserver: Running,
    path: Path,
    request_of_a_stranger: bytes,
    streams: tuple[int, ...],
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(_LIMIT)
        caller.connect(forked.address(forkserver.name))
        if request_of_a_stranger:
            socket.send_fds(caller, [request_of_a_stranger[:4]], streams)
        with contextlib.suppress(OSError):  # it may have hung up already
            caller.sendall(request_of_a_stranger[4:])
            caller.shutdown(socket.SHUT_WR)
            assert caller.recv(1) == b""
    server = Incusd(path)
    assert _status(path, forkserver.name) == 0
    server.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_other_users_are_not_served_and_not_believed(
    forkserver: Running, path: Path
) -> None:
    """As another user, a caller is refused; and one of ours refuses them."""
    program = (
        f"import os, sys; sys.path[:0] = {sys.path!r}\n"
        "from incus_testbed.incus.exec import forked\n"
        "os.setuid(65534)  # who may not be able to read the checkout\n"
    )
    caller = (
        "try: forked.outcome(sys.argv[1], ['--socket=/', 'box', 'true'])\n"
        "except forked.Absent: sys.exit(5)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program + caller, forkserver.name],
        stdin=subprocess.DEVNULL,
        check=False,
        timeout=_LIMIT,
    )
    assert done.returncode == 5
    listener = (
        "import socket; door = socket.socket(socket.AF_UNIX)\n"
        "door.bind(forked.address('taken')); door.listen()\n"
        "print(flush=True); door.accept()[0].recv(1)\n"
    )
    server = Incusd(path, status=9)
    with subprocess.Popen(
        [sys.executable, "-c", program + listener], stdout=subprocess.PIPE
    ) as thief:
        assert thief.stdout
        thief.stdout.readline()
        assert _status(path, "taken") == 9
    server.close()


def test_kernel_without_what_it_needs(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody is there then, and each command is a program of its own."""

    def refused(_: int) -> int:
        raise PermissionError(errno.EPERM, "seccomp")

    monkeypatch.setattr(os, "pidfd_open", refused)
    with pytest.raises(PermissionError):
        Server("unable")
    assert not forkservers.listens("unable")
    server = Incusd(path, status=6)
    assert _status(path, "unable") == 6
    server.close()


def test_terminal_is_left_to_the_caller(
    forkserver: Running, path: Path
) -> None:
    server = Incusd(path, status=4)
    master, terminal = pty.openpty()
    with _start(path, forkserver.name, stdin=terminal) as child:
        os.close(terminal)
        child.communicate(timeout=_LIMIT)
    os.close(master)
    server.close()
    assert child.returncode == 4
