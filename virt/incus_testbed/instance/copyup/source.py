# SPDX-License-Identifier: GPL-3.0-or-later
"""Read what a guest sends, once, from beginning to end."""

import contextlib
import fcntl
import os
from collections.abc import Iterator

from incus_testbed import errors

#: The size of a read, and of the pipe's buffer, in bytes.
_CHUNK = 1 << 20
#: A run of at least this many zeros becomes a hole in a file.
_HOLE = 4096
_ZEROS = memoryview(bytes(_CHUNK))


class Ended(errors.CommandFailed):
    """The guest stopped sending too early."""

    def __init__(self) -> None:
        """Say so."""
        super().__init__("What the testbed sent ends too early")


class Source:
    """A pipe that a guest fills.

    ``whole``: the data was complete, and said that the guest's command did not
    fail.
    """

    def __init__(self, descriptor: int) -> None:
        """Read from an open pipe.  The caller closes it."""
        self.whole = False
        self._pipe = descriptor
        self._buffer = memoryview(bytearray(_CHUNK))
        self._start = self._end = 0
        with contextlib.suppress(OSError):  # beyond the limit for this user
            fcntl.fcntl(descriptor, fcntl.F_SETPIPE_SZ, _CHUNK)

    def read(self, size: int) -> bytes:
        """Return the next ``size`` bytes; ``size`` is at most 8192.

        :raises Ended: there are fewer
        """
        data = self.read_or_end(size)
        if not data:
            raise Ended
        return data

    def read_or_end(self, size: int) -> bytes:
        """Return the next ``size`` bytes, or nothing at the end.

        :raises Ended: there are fewer, but not none
        """
        while self._end - self._start < size:
            if not self._fill():
                if self._end > self._start:
                    raise Ended
                return b""
        data = bytes(self._buffer[self._start : self._start + size])
        self._start += size
        return data

    def copy(self, size: int, file: int) -> None:
        """Write the next ``size`` bytes to an empty file.

        :raises Ended: there are fewer
        """
        end = self._start + size
        if size < _HOLE and end <= self._end:
            write_all(file, self._buffer[self._start : end])
            self._start = end
            return
        hole = False
        while size:
            data = self._some(size)
            hole = not write(file, data)
            size -= len(data)
        if hole:
            end_hole(file)

    def skip(self, size: int) -> None:
        """Skip the next ``size`` bytes.

        :raises Ended: there are fewer
        """
        there = min(size, self._end - self._start)
        self._start += there
        size -= there
        while size:
            size -= len(self._some(size))

    def rest(self) -> Iterator[memoryview]:
        """Yield the remaining data; a piece is valid until the next one."""
        while data := self._next(_CHUNK):
            yield data

    def _some(self, limit: int) -> memoryview:
        data = self._next(limit)
        if not data:
            raise Ended
        return data

    def _next(self, limit: int) -> memoryview:
        """Return at most ``limit`` bytes, valid until the next call."""
        if self._start == self._end:
            self._fill()
        end = min(self._end, self._start + limit)
        data = self._buffer[self._start : end]
        self._start = end
        return data

    def _fill(self) -> int:
        """Read more into the buffer; return how many bytes."""
        left = self._end - self._start
        if self._start:
            self._buffer[:left] = self._buffer[self._start : self._end]
        self._start, self._end = 0, left
        count = os.readv(self._pipe, [self._buffer[left:]])
        self._end += count
        return count


def write(file: int, data: memoryview) -> bool:
    """Write to a new file, or leave a hole in it; return whether it wrote."""
    if len(data) >= _HOLE and data == _ZEROS[: len(data)]:
        os.lseek(file, len(data), os.SEEK_CUR)
        return False
    write_all(file, data)
    return True


def end_hole(file: int) -> None:
    """End a file at its current position, even within a hole."""
    os.ftruncate(file, os.lseek(file, 0, os.SEEK_CUR))


def write_all(file: int, data: memoryview) -> None:
    """Write all of the data."""
    while data:
        data = data[os.write(file, data) :]
