# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of HTTP/1.1 (RFC 9112), taken apart as they arrive.

An answer's own length says where it ends, because a connection through
incus-user stays open after it.  http.client would take a session 10 ms longer
to import than all else that it needs.
"""

import re

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Bytes of an answer: a server with ten thousand instances has less to say.
LARGEST_ANSWER = 256 << 20
#: Bytes of the lines before the content, and of those after it.
LONGEST_HEAD = 1 << 16

_LINE_END, _HEAD_END = b"\r\n", b"\r\n\r\n"
_STATUS = re.compile(rb"HTTP/1\.[01] [2-5]\d\d(?= |\r\n)")
_LENGTH = re.compile(rb"\d{1,18}")
#: The size of a chunk, with extensions that mean nothing here.
_CHUNK_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;.*)?")


class Malformed(Exception):
    """What has come is not an answer of HTTP, or not one of this size."""


class Response:
    """One answer; ``content`` is what it is about, as far as it has come."""

    def __init__(self, *, most: int = LARGEST_ANSWER) -> None:
        """Expect the first byte; ``most``: bytes that the content may have."""
        self.content = bytearray()
        self.whole = False
        self._most = most
        self._rest = bytearray()
        self._left = 0  # bytes of the content, or of the chunk
        self._tail = 0  # bytes of the lines after the last chunk
        self._until_closed = False
        self._step: Callable[[], bool] = self._head

    def feed(self, data: bytes) -> None:
        """Take what has come; nothing stands for the end of the connection.

        What comes after the answer is not looked at.

        :raises Malformed: it is not what HTTP has here
        """
        if not data and not self.whole:
            if not self._until_closed:
                raise Malformed("the answer is not whole")
            self.whole = True
        self._rest += data
        while not self.whole and self._step():
            pass

    def _line(self, end: bytes = _LINE_END) -> bytes | None:
        """Return what is there up to ``end``; None if that is not there."""
        place = self._rest.find(end)
        if (place if place >= 0 else len(self._rest)) > LONGEST_HEAD:
            raise Malformed(f"a line is longer than {LONGEST_HEAD} bytes")
        if place < 0:
            return None
        line = bytes(self._rest[:place])
        del self._rest[: place + len(end)]
        return line

    def _head(self) -> bool:
        head = self._line(_HEAD_END)
        if head is None:
            return False
        if not _STATUS.match(head + _LINE_END):
            raise Malformed("this is not HTTP")
        fields = [line.partition(b":") for line in head.split(_LINE_END)[1:]]
        lengths = _values(fields, b"content-length")
        codings = _values(fields, b"transfer-encoding")
        if codings:
            if codings != {b"chunked"} or lengths:
                raise Malformed("the answer has an unknown encoding")
            self._step = self._chunk
        elif lengths:
            self._left = _number(lengths)
            self._check_size()
            self._step = self._content
            self.whole = not self._left
        else:
            self._until_closed = True
            self._step = self._all
        return True

    def _content(self) -> bool:
        """Take content of a known length."""
        self._move()
        self.whole = not self._left
        return False

    def _all(self) -> bool:
        """Take content that the end of the connection ends."""
        self._left = len(self._rest)
        self._move()
        return False

    def _chunk(self) -> bool:
        line = self._line()
        if line is None:
            return False
        size = _CHUNK_SIZE.fullmatch(line)
        if not size:
            raise Malformed("a chunk has no size")
        self._left = int(size[1], 16)
        self._check_size()
        self._step = self._chunk_content if self._left else self._trailer
        return True

    def _chunk_content(self) -> bool:
        self._move()
        if self._left or len(self._rest) < len(_LINE_END):
            return False
        if self._rest[: len(_LINE_END)] != _LINE_END:
            raise Malformed("a chunk is not as long as it says")
        del self._rest[: len(_LINE_END)]
        self._step = self._chunk
        return True

    def _trailer(self) -> bool:
        """Pass over the lines after the last chunk."""
        line = self._line()
        if line is None:
            return False
        self._tail += len(line)
        if self._tail > LONGEST_HEAD:
            raise Malformed(f"more than {LONGEST_HEAD} bytes end the answer")
        self.whole = not line
        return True

    def _move(self) -> None:
        """Take as much of the content as is there."""
        taken = self._rest[: self._left]
        self.content += taken
        self._left -= len(taken)
        del self._rest[: len(taken)]
        self._check_size()

    def _check_size(self) -> None:
        if len(self.content) + self._left > self._most:
            raise Malformed(f"the answer is larger than {self._most} bytes")


def _values(
    fields: "list[tuple[bytes, bytes, bytes]]", wanted: bytes
) -> set[bytes]:
    """Return the different values of a field, in lower case."""
    return {
        value.strip().lower()
        for name, _, value in fields
        if name.lower() == wanted
    }


def _number(lengths: set[bytes]) -> int:
    (length, *others) = lengths
    if others or not _LENGTH.fullmatch(length):
        raise Malformed("the answer's length makes no sense")
    return int(length)
