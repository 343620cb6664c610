# SPDX-License-Identifier: GPL-3.0-or-later
"""Talk to an instance's files by SFTP, through the Incus server.

When such a connection closes, Incus has the kernel write all of the storage
pool to the disk (syncfs in cmd/incusd/main_forkfile.go).  With other testbeds
in the pool that takes up to a second, and the next connection waits for it.

This is version 3, draft-ietf-secsh-filexfer-02.
"""

import contextlib
import stat
import struct
import time
from collections.abc import Iterable, Iterator

from incus_testbed.incus.exec import api
from incus_testbed.incus.exec.address import Address
from incus_testbed.incus.exec.api import quoted
from incus_testbed.incus.exec.connection import Connection
from incus_testbed.incus.exec.websocket import Handshake

#: What is asked (INIT to FSTAT), and what is answered.
_INIT, _OPEN, _CLOSE, _READ, _WRITE = 1, 3, 4, 5, 6
_LSTAT, _FSTAT, _FSETSTAT = 7, 8, 10
_VERSION, _STATUS, _HANDLE, _DATA, _ATTRS = 2, 101, 102, 103, 105
_OK, _ABSENT = 0, 2
#: To read a file; to write one that has to be new.
_EXISTING, _NEW = 0x1, 0x2 | 0x8 | 0x20
#: The attributes.  Of several at once, Incus sets them in another order than
#: the draft has them.
_SIZE, _OWNER, _MODE, _DATES = 0x1, 0x2, 0x4, 0x8
#: Bytes of content in a packet: what each server has to take, and gives.
_PART = 32 << 10
#: Questions without an answer at a time: with many more, server and client both
#: wait for the other to read.
_AHEAD = 32
#: Bytes of an answer: it has a part, a handle or a message.
_LONGEST = 1 << 16


@contextlib.contextmanager
def session(
    address: Address, project: str, instance: str, limit: float
) -> Iterator["Session"]:
    """Talk to an instance's files for so many seconds at most.

    :raises api.Failure: the server does not do what is asked
    :raises OSError: the connection is lost, or the time is over
    """
    target = f"/1.0/instances/{quoted(instance)}/sftp?project={quoted(project)}"
    deadline = time.monotonic() + limit
    with contextlib.closing(
        Handshake(address, target, limit, protocol="sftp")
    ) as handshake:
        yield Session(*handshake.opened(), deadline)


class Session:
    """What is said on one connection, a packet after the other.

    All methods raise api.Failure if the server does not do it, or OSError if
    the connection is lost or the deadline over.
    """

    def __init__(
        self, connection: Connection, come: bytes, deadline: float
    ) -> None:
        """Begin; ``come`` is what has come on the connection already."""
        self._connection = connection
        self._come = bytearray(come)
        self._deadline = deadline
        self._send(_INIT, struct.pack(">I", 3))
        if self._packet()[0] != _VERSION:
            raise api.Lost("this is not SFTP")

    def size(self, path: bytes) -> int | None:
        """Return the size of a regular file; None: it is something else.

        It is not opened, and a link is not followed.
        """
        self._ask(_LSTAT, _string(path))
        return self._size()

    def modified(self, path: bytes) -> int | None:
        """Return when a file was last changed, in seconds since 1970.

        None: it is not there.  A link is not followed.
        """
        self._ask(_LSTAT, _string(path))
        kind, content = self._packet()
        if kind == _STATUS and content[4:8] == struct.pack(">I", _ABSENT):
            return None
        if kind != _ATTRS:
            raise api.Refused("it was not done")
        *_, date = _attributes(content[4:])
        return date

    def create(self, path: bytes) -> bytes:
        """Create a file that is not there; return its handle."""
        return self._open(path, _NEW)

    def open(self, path: bytes) -> bytes:
        """Open a file to read it; return its handle."""
        return self._open(path, _EXISTING)

    def _open(self, path: bytes, how: int) -> bytes:
        self._ask(_OPEN, _string(path) + struct.pack(">II", how, 0))
        return _unpacked(self._answer(_HANDLE))

    def read(self, handle: bytes, size: int) -> bytes | None:
        """Return a regular file's content; None: it is not of that size."""
        self._ask(_FSTAT, _string(handle))
        if self._size() != size:
            return None
        questions = (
            _string(handle)
            + struct.pack(">QI", start, min(_PART, size - start))
            for start in range(0, size, _PART)
        )
        content = b"".join(map(_unpacked, self._all(_READ, questions, _DATA)))
        return content if len(content) == size else None

    def write(self, handle: bytes, content: bytes) -> None:
        """Write all of a file."""
        questions = (
            _string(handle)
            + struct.pack(">Q", start)
            + _string(content[start : start + _PART])
            for start in range(0, len(content), _PART)
        )
        for answer in self._all(_WRITE, questions, _STATUS):
            _check(answer)

    def set(self, handle: bytes, *, uid: int, gid: int, mode: int) -> None:
        """Give a file its owner, group and mode."""
        # The mode comes last: a new owner takes bits from it.
        for what in (
            struct.pack(">III", _OWNER, uid, gid),
            struct.pack(">II", _MODE, mode),
        ):
            self._ask(_FSETSTAT, _string(handle) + what)
            _check(self._answer(_STATUS))

    def close(self, handle: bytes) -> None:
        """Close a file."""
        self._ask(_CLOSE, _string(handle))
        _check(self._answer(_STATUS))

    def _size(self) -> int | None:
        size, mode, _ = _attributes(self._answer(_ATTRS))
        return size if stat.S_ISREG(mode) else None

    def _all(
        self, kind: int, questions: Iterable[bytes], wanted: int
    ) -> Iterator[bytes]:
        """Ask everything, some of it before the last answer; yield answers."""
        open_questions = 0
        for question in questions:
            if open_questions == _AHEAD:
                yield self._answer(wanted)
                open_questions -= 1
            self._ask(kind, question)
            open_questions += 1
        for _ in range(open_questions):
            yield self._answer(wanted)

    def _ask(self, kind: int, content: bytes) -> None:
        """Ask something; the answers come in the order of the questions."""
        self._send(kind, bytes(4) + content)

    def _answer(self, wanted: int) -> bytes:
        """Return the next answer, which has to be of a kind."""
        kind, content = self._packet()
        if kind != wanted:
            raise api.Refused("it was not done")
        return content[4:]  # without the number of the question

    def _send(self, kind: int, content: bytes) -> None:
        head = struct.pack(">IB", 1 + len(content), kind)
        self._connection.settimeout(self._left())
        self._connection.sendall(head + content)

    def _packet(self) -> tuple[int, bytes]:
        """Return the kind and the content of the next answer."""
        (length,) = struct.unpack(">I", self._bytes(4))
        if not 0 < length <= _LONGEST:
            raise api.Lost("an answer is too long, or empty")
        packet = self._bytes(length)
        return packet[0], packet[1:]

    def _bytes(self, count: int) -> bytes:
        while len(self._come) < count:
            data = api.receive(self._connection, self._deadline)
            if not data:
                raise api.Lost("the connection has ended")
            self._come += data
        taken = bytes(self._come[:count])
        del self._come[:count]
        return taken

    def _left(self) -> float:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        return left


def _string(content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + content


def _attributes(answer: bytes) -> tuple[int, int, int]:
    """Return a file's size, mode and date."""
    try:
        flags, size, _, _, mode, _, date = struct.unpack_from(
            ">IQIIIII", answer
        )
    except struct.error:
        raise api.Lost("the answer makes no sense") from None
    if ~flags & (_SIZE | _OWNER | _MODE | _DATES):
        raise api.Lost("the answer does not say what it is")
    return size, mode, date


def _check(status: bytes) -> None:
    if status[:4] != struct.pack(">I", _OK):
        raise api.Refused("it was not done")


def _unpacked(string: bytes) -> bytes:
    """Return the content of the only string of an answer."""
    if int.from_bytes(string[:4]) != len(string) - 4:
        raise api.Lost("the answer makes no sense")
    return string[4:]
