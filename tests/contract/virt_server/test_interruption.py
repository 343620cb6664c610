# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever ends a server, in whatever state: no instance is left behind."""

import contextlib
import dataclasses
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from incus_testbed.incus.client import Incus
from incus_testbed.instance.creation import OWNER_KEY
from incus_testbed.ownership.owner import Owner

from .conftest import Start, names, wait_until_gone
from .server import COMMAND, LIMIT, Server, environment


def _before_open(server: Server) -> None:
    del server


def _early_in_open(server: Server) -> None:
    server.send("open")
    time.sleep(0.15)


def _late_in_open(server: Server) -> None:
    server.send("open")
    time.sleep(0.6)


def _open(server: Server) -> str:
    (scratch,) = server.ask("open")
    return scratch


def _during_copydown(server: Server) -> None:
    scratch = _open(server)
    server.execute("mkfifo", f"{scratch}/never")
    server.send(f"copydown /etc/passwd {scratch}/never")
    time.sleep(0.3)


def _during_copyup(server: Server) -> None:
    scratch = _open(server)
    server.execute("mkfifo", f"{scratch}/never")
    server.send(f"copyup {scratch}/never /dev/null")
    time.sleep(0.3)


def _during_reboot(server: Server) -> None:
    _open(server)
    server.send("reboot")
    time.sleep(0.3)


def _during_revert(server: Server) -> None:
    _open(server)
    server.send("revert")
    time.sleep(0.3)


def _during_close(server: Server) -> None:
    _open(server)
    server.send("close")


def _closed(server: Server) -> None:
    _open(server)
    server.ask("close")


_STATES = [
    _before_open,
    _early_in_open,
    _late_in_open,
    _open,
    _during_copydown,
    _during_copyup,
    _during_reboot,
    _during_revert,
    _during_close,
    _closed,
]
_in_each_state = pytest.mark.parametrize(
    "reach", _STATES, ids=lambda state: state.__name__.strip("_")
)


@_in_each_state
def test_signal(
    start: Start, bookworm: str, reach: Callable[[Server], object]
) -> None:
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    servers = [start(bookworm) for _ in numbers]
    for server, number in zip(servers, numbers, strict=True):
        reach(server)
        server.process.send_signal(number)
    for server, number in zip(servers, numbers, strict=True):
        end = server.end()
        assert end.status == -number, end
        assert "Traceback" not in end.said, end.said


@_in_each_state
def test_caller_that_is_gone(
    start: Start, bookworm: str, reach: Callable[[Server], object]
) -> None:
    """Its end of both pipes is closed; nobody reads the answer."""
    server = start(bookworm, env=environment(AUTOPKGTEST_VIRT_COPY_TIMEOUT="2"))
    reach(server)
    assert server.process.stdin
    assert server.process.stdout
    server.process.stdin.close()
    server.process.stdout.close()
    assert server.process.stderr
    said = server.process.stderr.read().decode()
    assert server.process.wait(LIMIT) in {12, -signal.SIGPIPE}
    assert "Traceback" not in said, said


@pytest.mark.parametrize(
    "reach", [_late_in_open, _open, _during_revert], ids=lambda f: f.__name__
)
def test_killed_server_s_instance_is_garbage_for_the_next(
    start: Start,
    incus: Incus,
    bookworm: str,
    reach: Callable[[Server], object],
) -> None:
    before = names(incus)
    server = start(bookworm)
    reach(server)
    server.process.kill()
    server.process.wait()
    deadline = time.monotonic() + LIMIT
    while not (left := names(incus) - before):  # the daemon goes on
        assert time.monotonic() < deadline
    following = start(bookworm)
    following.ask("open")
    following.ask("close")
    following.quit()
    wait_until_gone(incus, before)
    assert left


def test_what_became_garbage_since_open_is_for_the_next(
    start: Start, incus: Incus, bookworm: str
) -> None:
    """Others that end at the same time are having theirs removed."""
    before = names(incus)
    server = start(bookworm)
    server.ask("open")
    nobody = dataclasses.replace(Owner.current(), started=1)
    incus.run("init", bookworm, "late", f"--config={OWNER_KEY}={nobody}")
    server.ask("close")
    server.quit()
    wait_until_gone(incus, before | {"late"})
    time.sleep(1)  # for what else the removal would do
    assert names(incus) == before | {"late"}
    following = start(bookworm)
    following.ask("open")
    following.ask("close")
    following.quit()
    wait_until_gone(incus, before)


def test_killed_parent(incus: Incus, bookworm: str) -> None:
    before = names(incus)
    with subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import subprocess, sys, time\n"
            "child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)\n"
            "child.stdin.write(b'open\\n'); child.stdin.flush()\n"
            "time.sleep(600)",
            *(COMMAND, bookworm),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as parent:
        assert parent.stdout
        assert parent.stdout.readline() == b"ok\n"
        assert parent.stdout.readline().startswith(b"ok /tmp/")
        assert names(incus) > before
        parent.kill()
    wait_until_gone(incus, before)


def test_dead_terminal(incus: Incus, bookworm: str) -> None:
    """All the server has is a terminal, and the window is closed."""
    before = names(incus)
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(COMMAND, [COMMAND, bookworm])  # noqa: S606
    os.write(terminal, b"open\n")
    said = b""
    while b"ok /tmp/" not in said:
        said += os.read(terminal, 1024)
    assert names(incus) > before
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGHUP
    wait_until_gone(incus, before)


def test_instance_says_whose_it_is(
    start: Start, incus: Incus, bookworm: str
) -> None:
    before = names(incus)
    server = start(bookworm)
    server.ask("open")
    (mine,) = names(incus) - before
    owner = Owner.parse(incus.instance(mine).config[OWNER_KEY])
    assert owner
    assert owner.pid == server.process.pid
    server.ask("close")
    server.quit()


def test_interrupted_import_leaves_no_image(
    start: Start, incus: Incus, bookworm_tarball: Path, tmp_path: Path
) -> None:
    tarball = tmp_path / "mine.tar"
    with tarball.open("wb") as plain:
        subprocess.run(
            ["zstd", "-dc", bookworm_tarball], stdout=plain, check=True
        )
        plain.write(bytes(10240))  # another content, the same system
    images = {image.fingerprint for image in incus.images()}
    server = start(str(tarball), stderr=subprocess.DEVNULL)
    server.send("open")
    time.sleep(0.5)
    server.process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        server.process.wait(LIMIT)
    assert server.process.returncode == -signal.SIGTERM
    assert {image.fingerprint for image in incus.images()} == images
