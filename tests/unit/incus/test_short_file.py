# SPDX-License-Identifier: GPL-3.0-or-later
"""A short file is read or made whole by SFTP, or its user is told."""

import contextlib
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from incus_testbed.incus import short_file
from incus_testbed.incus.exec.address import UnixAddress
from tests.support.listener import Listener

_UPGRADED = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: sftp\r\n\r\n"
_INIT, _OPEN, _CLOSE, _READ, _WRITE = 1, 3, 4, 5, 6
_LSTAT, _FSTAT, _FSETSTAT = 7, 8, 10
_HANDLE = b"the handle"
_FAILURE = 4
_REGULAR, _LINK, _FIFO = 0o100644, 0o120777, 0o010644


def _packet(kind: int, content: bytes) -> bytes:
    return struct.pack(">IB", 1 + len(content), kind) + content


def _string(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def _status(code: int) -> bytes:
    said = struct.pack(">II", 0, code) + _string(b"") + _string(b"")
    return _packet(101, said)


def _attributes(size: int, mode: int = _REGULAR) -> bytes:
    """Return what Incus says of a file; it says its times, too."""
    about = struct.pack(">IQIIIII", 15, size, 0, 0, mode, 9, 9)
    return _packet(105, bytes(4) + about)


def _data(content: bytes) -> bytes:
    return _packet(103, bytes(4) + _string(content))


class Server:
    """Has one file, and keeps what it was told of it.

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
        answers = {
            _INIT: _packet(2, struct.pack(">I", 3)),
            _LSTAT: _attributes(len(self.content)),
            _OPEN: _packet(102, bytes(4) + _string(_HANDLE)),
            _FSTAT: _attributes(len(self.content)),
            **self.answers,
        }
        if kind in answers:
            return answers[kind]
        assert told[4:].startswith(_string(_HANDLE))
        rest = told[4 + len(_string(_HANDLE)) :]
        if kind == _READ:
            start, size = struct.unpack(">QI", rest)
            return _data(self.content[start : start + size])
        if kind == _WRITE:
            assert struct.unpack(">Q", rest[:8]) == (len(self.content),)
            self.content += rest[12:]
        if kind == _FSETSTAT:
            self.set.append(told)
        return _status(0)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path / "socket")
    yield server
    server.close()


def _make(server: Server, content: bytes = b"hello") -> bool:
    return short_file.make(
        *(server.address, "p&q", "testbed-1", "/a b", content),
        uid=5,
        gid=7,
        mode=0o640,
    )


def _read(server: Server, path: str = "/a b") -> bytes | None:
    return short_file.read(server.address, "p&q", "testbed-1", path)


_SIZES = [1, 32 << 10, (32 << 10) + 1, short_file.MOST]


def _content(size: int) -> bytes:
    return bytes(range(256)) * (size // 256) + bytes(size % 256)


@pytest.mark.parametrize("size", _SIZES)
def test_it_is_read_whole(server: Server, size: int) -> None:
    server.content = _content(size)
    assert _read(server) == server.content
    assert server.request.startswith(
        "GET /1.0/instances/testbed-1/sftp?project=p%26q HTTP/1.1\r\n"
    )
    assert server.told[_LSTAT] == bytes(4) + _string(b"/a b")
    reading = struct.pack(">II", 1, 0)
    assert server.told[_OPEN] == bytes(4) + _string(b"/a b") + reading


@pytest.mark.parametrize(
    ("answer", "date"),
    [
        (_attributes(5), 9),
        (_attributes(5, _LINK), 9),
        (_status(2), 0),
        (_status(_FAILURE), None),
        (_packet(101, b""), None),
        (_packet(105, bytes(4) + struct.pack(">IQIII", 7, 5, 0, 0, 0)), None),
        (_packet(105, bytes(4) + struct.pack(">IQIIIII", 7, *[5] * 6)), None),
        (_data(b"what"), None),
    ],
)
def test_the_date_of_a_file(
    server: Server, answer: bytes, date: int | None
) -> None:
    server.answers[_LSTAT] = answer
    path = (server.address, "p&q", "testbed-1", "/a b")
    assert short_file.modified(*path) == date


@pytest.mark.parametrize(
    "answer",
    [
        _attributes(5, _LINK),
        _attributes(5, _FIFO),
        _attributes(0),  # also a file of /proc
        _attributes(short_file.MOST + 1),
        _status(2),  # it is not there
        _packet(105, bytes(4) + struct.pack(">I", 0)),
        _packet(105, bytes(4) + struct.pack(">IQIII", 4, 0, 0, 0, _REGULAR)),
        _packet(105, b""),
    ],
)
def test_what_is_no_short_file_is_not_opened(
    server: Server, answer: bytes
) -> None:
    server.answers[_LSTAT] = answer
    assert _read(server) is None
    assert _OPEN not in server.told


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (_OPEN, _status(_FAILURE)),
        (_FSTAT, _attributes(4)),
        (_FSTAT, _attributes(5, _FIFO)),
        (_FSTAT, _status(_FAILURE)),
        (_READ, _data(b"hell")),
        (_READ, _data(b"hello!")),
        (_READ, _status(1)),  # it has ended
        (_READ, _packet(103, bytes(4) + struct.pack(">I", 1 << 31) + b"x")),
    ],
)
def test_a_file_that_changes_is_not_taken(
    server: Server, asked: int, answer: bytes
) -> None:
    server.content = b"hello"
    server.answers[asked] = answer
    assert _read(server) is None


@pytest.mark.parametrize("path", ["file", "/a/../b", "/a//b", "/a/", "/a/."])
def test_a_path_that_incus_would_change_is_not_asked_for(
    server: Server, path: str
) -> None:
    assert _read(server, path) is None
    assert not server.told


def test_an_answer_that_does_not_come(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As for a FIFO that a guest puts in the file's place meanwhile."""
    monkeypatch.setattr(short_file, "_LIMIT", 0.2)
    server.content = b"hello"
    server.answers[_OPEN] = b""
    assert _read(server) is None


@pytest.mark.parametrize("size", [0, *_SIZES])
def test_it_is_made_whole(server: Server, size: int) -> None:
    content = _content(size)
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
    monkeypatch.setattr(short_file, "_LIMIT", 0.5)
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
    monkeypatch.setattr(short_file, "_LIMIT", 0.5)
    server.upgraded = upgraded
    assert not _make(server)
    assert _read(server) is None


def test_file_of_this_machine(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"hello")
    file.chmod(0o4640)
    assert short_file.here(str(file)) == (b"hello", 0o640)
    os.truncate(file, short_file.MOST)
    assert short_file.here(str(file))
    os.truncate(file, short_file.MOST + 1)
    assert short_file.here(str(file)) is None
    assert short_file.here(str(tmp_path)) is None
    assert short_file.here("/proc/version")


def test_no_daemon(tmp_path: Path) -> None:
    assert not short_file.make(
        *(UnixAddress(str(tmp_path / "absent")), "default", "x", "/x", b""),
        uid=0,
        gid=0,
        mode=0o600,
    )
    absent = UnixAddress(str(tmp_path / "absent"))
    assert short_file.read(absent, "default", "x", "/x") is None
