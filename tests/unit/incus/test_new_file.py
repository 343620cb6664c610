# SPDX-License-Identifier: GPL-3.0-or-later
"""A new file is made by SFTP, whole, or its maker is told that it is not."""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from incus_testbed.incus import new_file
from incus_testbed.incus.exec.address import UnixAddress
from incus_testbed.incus.short_file import MOST
from tests.support.listener import Listener

_UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: sftp\r\n\r\n"
_OPEN, _CLOSE, _WRITE, _FSETSTAT = 3, 4, 6, 10
_HANDLE = b"the handle"
_FAILURE = 4


def _packet(kind: int, content: bytes) -> bytes:
    return struct.pack(">IB", 1 + len(content), kind) + content


def _string(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def _status(code: int) -> bytes:
    said = struct.pack(">II", 0, code) + _string(b"") + _string(b"")
    return _packet(101, said)


class Server:
    """Makes one file, and keeps what it was told of it.

    ``answers`` are sent instead of its own, by the kind of the question.
    """

    def __init__(self, path: Path) -> None:
        self.address = UnixAddress(str(path))
        self.upgraded = _UPGRADED
        self.answers: dict[int, bytes] = {}
        self.told: dict[int, bytes] = {}
        self.content = b""
        self.set: list[bytes] = []
        self._listener = Listener.at(path, self._serve)

    def close(self) -> None:
        self._listener.close()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                head += connection.recv(1)
            self.request = head.decode()
            connection.sendall(self.upgraded)
            with connection.makefile("rb") as asked:
                while length := asked.read(4):
                    (size,) = struct.unpack(">I", length)
                    packet = asked.read(size)
                    connection.sendall(self._answer(packet[0], packet[1:]))

    def _answer(self, kind: int, told: bytes) -> bytes:
        self.told[kind] = told
        if kind in self.answers:
            return self.answers[kind]
        if kind == 1:
            return _packet(2, struct.pack(">I", 3))
        if kind == _OPEN:
            return _packet(102, bytes(4) + _string(_HANDLE))
        assert told[4:].startswith(_string(_HANDLE))
        if kind == _FSETSTAT:
            self.set.append(told)
        if kind == _WRITE:
            rest = told[4 + len(_string(_HANDLE)) :]
            assert struct.unpack(">Q", rest[:8]) == (len(self.content),)
            self.content += rest[12:]
        return _status(0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "socket")
    yield server
    server.close()


def _make(server: Server, content: bytes = b"hello") -> bool:
    return new_file.make(
        *(server.address, "p&q", "testbed-1", "/a b", content),
        uid=5,
        gid=7,
        mode=0o640,
    )


@pytest.mark.parametrize("size", [0, 1, 32 << 10, (32 << 10) + 1, 8 << 20])
def test_it_is_whole(server: Server, size: int) -> None:
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    assert _make(server, content)
    assert server.content == content
    assert server.request.startswith(
        "GET /1.0/instances/testbed-1/sftp?project=p%26q HTTP/1.1\r\n"
    )
    assert "\r\nUpgrade: sftp\r\n" in server.request
    # It is written, and has to be new.
    new = struct.pack(">II", 0x2 | 0x8 | 0x20, 0)
    assert server.told[_OPEN] == bytes(4) + _string(b"/a b") + new
    owner, mode = struct.pack(">III", 2, 5, 7), struct.pack(">II", 4, 0o640)
    assert server.set == [
        bytes(4) + _string(_HANDLE) + what for what in (owner, mode)
    ]
    assert _CLOSE in server.told


@pytest.mark.parametrize("asked", [_OPEN, _WRITE, _FSETSTAT, _CLOSE])
def test_what_the_server_refuses_is_told(server: Server, asked: int) -> None:
    server.answers[asked] = _status(_FAILURE)
    assert not _make(server)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        bytes(4),
        struct.pack(">I", 1 << 31),
        _packet(102, b""),
        _packet(102, bytes(4) + struct.pack(">I", 1 << 31) + b"x"),
        _packet(101, b""),
    ],
)
@pytest.mark.parametrize("asked", [1, _OPEN, _WRITE])
def test_an_answer_that_makes_no_sense(
    server: Server, monkeypatch: pytest.MonkeyPatch, asked: int, answer: bytes
) -> None:
    monkeypatch.setattr(new_file, "_LIMIT", 0.5)
    server.answers[asked] = answer
    assert not _make(server)


@pytest.mark.parametrize(
    "upgraded",
    [
        b"",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"x" * 70_000,
    ],
)
def test_a_server_without_it(
    server: Server, monkeypatch: pytest.MonkeyPatch, upgraded: bytes
) -> None:
    monkeypatch.setattr(new_file, "_LIMIT", 0.5)
    server.upgraded = upgraded
    assert not _make(server)


def test_file_of_this_machine(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"hello")
    file.chmod(0o4640)
    assert new_file.here(str(file)) == (b"hello", 0o640)
    os.truncate(file, MOST)
    assert new_file.here(str(file))
    os.truncate(file, MOST + 1)
    assert new_file.here(str(file)) is None
    assert new_file.here(str(tmp_path)) is None
    assert new_file.here("/proc/version")


def test_no_daemon(tmp_path: Path) -> None:
    assert not new_file.make(
        *(UnixAddress(str(tmp_path / "absent")), "default", "x", "/x", b""),
        uid=0,
        gid=0,
        mode=0o600,
    )
