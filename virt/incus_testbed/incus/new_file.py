# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a short file in an instance, by SFTP through the Incus server.

For a file of 1 kB that takes 5 ms; incus file push takes 20 ms.  When such a
connection closes, Incus has the kernel write all of the storage pool to the
disk (syncfs in cmd/incusd/main_forkfile.go).  With other testbeds in the pool
that takes up to a second, and who makes a file meanwhile waits for it.  So all
is asked on one connection, where a question before would cost that second.

SFTP is version 3, draft-ietf-secsh-filexfer-02.
"""

import contextlib
import os
import struct
import time
from pathlib import Path

from incus_testbed.incus.exec import api
from incus_testbed.incus.exec.address import Address
from incus_testbed.incus.exec.api import quoted
from incus_testbed.incus.exec.connection import Connection
from incus_testbed.incus.exec.websocket import Handshake
from incus_testbed.incus.short_file import MOST, is_plain

#: What is asked (INIT to FSETSTAT), and what is answered.
_INIT, _OPEN, _CLOSE, _WRITE, _FSETSTAT = 1, 3, 4, 6, 10
_VERSION, _STATUS, _HANDLE = 2, 101, 102
_OK = 0
#: To write a file that has to be new.
_NEW = 0x2 | 0x8 | 0x20
#: The attributes that are set.  Of several at once, Incus takes them in another
#: order than the draft has them.
_OWNER, _MODE = 0x2, 0x4
#: Bytes of content in a packet: what each server has to take.
_PART = 32 << 10
#: Bytes of an answer: it has a handle, or a message.
_LONGEST = 1 << 16
#: Seconds for all of it.
_LIMIT = 10.0


def make(
    address: Address,
    project: str,
    instance: str,
    path: str,
    content: bytes,
    *,
    uid: int,
    gid: int,
    mode: int,
) -> bool:
    """Make a file that is not there; tell whether it is whole.

    If not, the caller has to write it in another way: there may be something
    else, or a part.
    """
    if not is_plain(path):
        return False
    target = f"/1.0/instances/{quoted(instance)}/sftp?project={quoted(project)}"
    deadline = time.monotonic() + _LIMIT
    try:
        with contextlib.closing(
            Handshake(address, target, _LIMIT, protocol="sftp")
        ) as handshake:
            session = _Session(*handshake.opened(), deadline)
            file = session.create(os.fsencode(path))
            session.write(file, content)
            session.set(file, uid=uid, gid=gid, mode=mode)
            session.close(file)
    except (api.Failure, OSError):
        return False
    return True


def here(path: str) -> tuple[bytes, int] | None:
    """Return the content and the permissions of a short file of this machine.

    None stands for everything else.
    """
    try:
        with Path(path).open("rb") as file:
            status = os.fstat(file.fileno())
            if status.st_size > MOST:
                return None
            content = file.read(MOST + 1)
    except OSError:
        return None
    return (content, status.st_mode & 0o777) if len(content) <= MOST else None


class _Session:
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

    def create(self, path: bytes) -> bytes:
        """Create a file that is not there; return its handle."""
        about = struct.pack(">II", _NEW, 0)
        self._send(_OPEN, bytes(4) + _string(path) + about)
        kind, answer = self._packet()
        if kind != _HANDLE:
            raise api.Refused("there is something, or no place for it")
        handle = answer[8:]  # the number of the question, and the length
        if struct.pack(">I", len(handle)) != answer[4:8]:
            raise api.Lost("the answer makes no sense")
        return handle

    def write(self, handle: bytes, content: bytes) -> None:
        """Write all of a file."""
        starts = range(0, len(content), _PART)
        for start in starts:
            self._send(
                _WRITE,
                bytes(4)
                + _string(handle)
                + struct.pack(">Q", start)
                + _string(content[start : start + _PART]),
            )
        for _ in starts:
            self._check()

    def set(self, handle: bytes, *, uid: int, gid: int, mode: int) -> None:
        """Give a file its owner, group and mode."""
        # The mode comes last: a new owner takes bits from it.
        for what in (
            struct.pack(">III", _OWNER, uid, gid),
            struct.pack(">II", _MODE, mode),
        ):
            self._send(_FSETSTAT, bytes(4) + _string(handle) + what)
            self._check()

    def close(self, handle: bytes) -> None:
        """Close a file."""
        self._send(_CLOSE, bytes(4) + _string(handle))
        self._check()

    def _check(self) -> None:
        kind, answer = self._packet()
        if kind != _STATUS or answer[4:8] != struct.pack(">I", _OK):
            raise api.Refused("it was not done")

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
