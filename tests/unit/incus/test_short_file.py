# SPDX-License-Identifier: GPL-3.0-or-later
"""A short file comes whole in an answer of Incus, or not at all."""

import contextlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from incus_testbed.incus import short_file
from incus_testbed.incus.exec.address import UnixAddress
from tests.support.listener import Listener

_FILE = b"X-Incus-type: file\r\n"
_SIZE = b"Content-Length: %d\r\n"
_END = b"\r\n"


class Daemon:
    """Gives the same answers to all requests, which it keeps."""

    def __init__(self, path: Path) -> None:
        self.address = UnixAddress(str(path))
        self.answers = {"HEAD": b"", "GET": b""}
        self.asked: list[str] = []
        self._listener = Listener.at(path, self._serve)

    def answer(self, method: str, said: bytes) -> None:
        self.answers[method] = b"HTTP/1.1 200 OK\r\n" + said

    def close(self) -> None:
        self._listener.close()

    def _serve(self, connection: socket.socket) -> None:
        # Of what is too large it does not take all.
        with connection, contextlib.suppress(BrokenPipeError):
            request = connection.recv(1 << 16).decode()
            method, target, _ = request.split(" ", 2)
            self.asked.append(f"{method} {target}")
            connection.sendall(self.answers[method])


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon(tmp_path / "socket")
    daemon.answer("HEAD", _FILE + _SIZE % 5 + _END)
    daemon.answer("GET", _FILE + _SIZE % 5 + _END + b"hello")
    yield daemon
    daemon.close()


def _read(daemon: Daemon, path: str = "/a b") -> bytes | None:
    return short_file.read(daemon.address, "p&q", "testbed-1", path)


def test_short_file(daemon: Daemon) -> None:
    assert _read(daemon) == b"hello"
    target = "/1.0/instances/testbed-1/files?project=p%26q&path=%2Fa%20b"
    assert daemon.asked == [f"HEAD {target}", f"GET {target}"]


@pytest.mark.parametrize(
    "head",
    [
        _FILE + _SIZE % 0 + _END,  # also a FIFO, a device, a file of /proc
        _FILE + _SIZE % (short_file.MOST + 1) + _END,
        _FILE + b"Content-Length: -5\r\n" + _END,
        _FILE + b"Content-Length: " + b"9" * 5000 + _END,
        _FILE + _SIZE % 5 + _SIZE % 6 + _END,
        _FILE + b"X-Incus-type: symlink\r\n" + _SIZE % 5 + _END,
        b"X-Incus-type: symlink\r\n" + _SIZE % 5 + _END,
        _SIZE % 5 + _END,
        b"",
    ],
)
def test_what_is_no_short_file_is_not_opened(
    daemon: Daemon, head: bytes
) -> None:
    daemon.answer("HEAD", head)
    assert _read(daemon) is None
    assert [asked[:4] for asked in daemon.asked] == ["HEAD"]


@pytest.mark.parametrize(
    "said",
    [
        _FILE + _SIZE % 5 + _END + b"hell",
        _FILE + _SIZE % 4 + _END + b"hell",
        _FILE + _SIZE % 6 + _END + b"hello!",
        _FILE + _END + b"hello",
        b"X-Incus-type: symlink\r\n" + _SIZE % 5 + _END + b"/root",
        _FILE
        + _SIZE % (short_file.MOST + 1)
        + _END
        + bytes(short_file.MOST + 1),
        b"",
    ],
)
def test_file_that_changes_is_not_taken(daemon: Daemon, said: bytes) -> None:
    daemon.answer("GET", said)
    assert _read(daemon) is None


@pytest.mark.parametrize("path", ["file", "/a/../b", "/a//b", "/a/", "/a/."])
def test_path_that_incus_would_change_is_not_asked_for(
    daemon: Daemon, path: str
) -> None:
    assert _read(daemon, path) is None
    assert not daemon.asked


def test_daemon_that_does_not_answer(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a FIFO that a guest puts in the file's place meanwhile."""
    monkeypatch.setattr(short_file, "_LIMIT", 0.2)
    daemon.answer("GET", _FILE + _SIZE % 5 + _END)
    held = []

    def serve(connection: socket.socket) -> None:
        held.append(connection)

    monkeypatch.setattr(daemon._listener, "_serve", serve)
    assert _read(daemon) is None
    for connection in held:
        connection.close()


def test_no_daemon(tmp_path: Path) -> None:
    address = UnixAddress(os.fspath(tmp_path / "absent"))
    assert short_file.read(address, "default", "testbed-1", "/file") is None
