# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the file that is converted, once, and count and hash its bytes."""

import errno
import hashlib
import io
import os
import stat
from collections.abc import Callable
from typing import IO, Protocol, cast

#: Bytes per read: so large that the time spent in Python does not matter.
CHUNK = 1 << 20

_ZEROS = bytes(CHUNK)


class Readable(Protocol):
    """Anything that bytes can be read from: a file, a pipe, a download.

    An attribute ``size``, if there is one, is the number of bytes.
    """

    def read(self, size: int, /) -> bytes:
        """Return up to size bytes, none at the end only."""


class SparseFile:
    """A file on disk whose holes are not read, but returned as zeros.

    Reading holes would fill the page cache with zeros, and most of a disk
    image may be holes.
    """

    def __init__(self, file: IO[bytes]) -> None:
        """Read ``file`` from its beginning; do not move its position."""
        self._descriptor = file.fileno()
        self._place = 0
        self._data = self._hole = 0  # where the next data begins and ends

    def read(self, size: int) -> bytes:
        """Return up to size bytes, none at the end only."""
        if self._place >= self._hole:
            self._find_data()
        if self._place < self._data:
            data = _ZEROS[: min(size, self._data - self._place)]
        else:
            data = os.pread(
                self._descriptor,
                min(size, self._hole - self._place),
                self._place,
            )
        self._place += len(data)
        return data

    def _find_data(self) -> None:
        try:
            self._data = os.lseek(self._descriptor, self._place, os.SEEK_DATA)
            self._hole = os.lseek(self._descriptor, self._data, os.SEEK_HOLE)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            # There is no more data.
            size = os.fstat(self._descriptor).st_size
            self._data = self._hole = max(self._place, size)


class Lookahead:
    """A stream whose first bytes can be seen before they are read."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        """Get bytes from ``read``, which may return fewer than requested."""
        self._next = read
        self._head = b""

    def head(self, size: int) -> bytes:
        """Return the first bytes, fewer than size if there are no more.

        Call this only before the first ``read``, which returns them again.
        """
        while len(self._head) < size:
            chunk = self._next(size - len(self._head))
            if not chunk:
                break
            self._head += chunk
        return self._head

    def read(self, size: int) -> bytes:
        """Return up to size bytes, none at the end."""
        if not self._head:
            return self._next(size)
        data, self._head = self._head[:size], self._head[size:]
        return data

    def drain(self) -> None:
        """Read the rest."""
        while self.read(CHUNK):
            pass


class Source(Lookahead):
    """The bytes of a source, counted and hashed as they are read.

    ``on_disk`` is the source's file if it is on disk and was at its beginning.
    ``total`` is the number of all bytes, 0 if unknown.
    """

    def __init__(
        self, file: Readable, progress: Callable[[int], None] | None = None
    ) -> None:
        """Read file from its current position; report to ``progress``."""
        super().__init__(self._read_on)
        self.on_disk = regular_file(file)
        self._file = SparseFile(self.on_disk) if self.on_disk else file
        self.total: int = (
            os.fstat(self.on_disk.fileno()).st_size
            if self.on_disk
            else getattr(file, "size", 0)
        )
        self._progress = progress
        #: An exception of the file or of progress, not caused by the content.
        self.trouble: Exception | None = None
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """The SHA-256 of what has been read, in hexadecimal."""
        return self._hash.hexdigest()

    def _read_on(self, size: int) -> bytes:
        try:
            chunk = self._file.read(size)
            self._hash.update(chunk)
            self.size += len(chunk)
            if self._progress and chunk:
                self._progress(self.size)
        except Exception as error:
            self.trouble = error
            raise
        return chunk


def regular_file(source: Readable) -> IO[bytes] | None:
    """Return the source's file if it is on disk and at its beginning."""
    opened = getattr(source, "file", source)  # tempfile wraps its files
    # Objects that unpack a file, such as gzip's, have its descriptor too.
    if not isinstance(getattr(opened, "raw", opened), io.FileIO):
        return None
    file = cast("IO[bytes]", opened)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        return None
    return file if file.tell() == 0 else None
