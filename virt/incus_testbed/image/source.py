# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that is converted, read once."""

import hashlib
import os
import stat
from collections.abc import Callable
from typing import IO, Protocol, cast

#: How much is asked for at once: large enough that Python is not felt.
CHUNK = 1 << 20


class Readable(Protocol):
    """What bytes can be read from: a file, a pipe, a download."""

    def read(self, size: int, /) -> bytes:
        """Return up to size bytes, none at the end only."""


class Lookahead:
    """A stream whose first bytes can be seen before they are read."""

    def __init__(self, read: Callable[[int], bytes]) -> None:
        """Get the bytes from ``read``, up to as many as it is asked for."""
        self._next = read
        self._head = b""

    def head(self, size: int) -> bytes:
        """Return the first bytes, fewer than size if there are no more.

        Only before the first ``read``, which returns them again.
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
        """Read what is left."""
        while self.read(CHUNK):
            pass


class Source(Lookahead):
    """The bytes that were given, counted and hashed on their way through."""

    def __init__(
        self, file: Readable, progress: Callable[[int], None] | None
    ) -> None:
        """Read file from where it stands; tell progress how far it is."""
        super().__init__(self._read_on)
        self._file = file
        self._progress = progress
        self._hash = hashlib.sha256()
        self.size = 0

    @property
    def sha256(self) -> str:
        """The SHA-256 of what has been read, in hexadecimal."""
        return self._hash.hexdigest()

    def _read_on(self, size: int) -> bytes:
        chunk = self._file.read(size)
        self._hash.update(chunk)
        self.size += len(chunk)
        if self._progress and chunk:
            self._progress(self.size)
        return chunk


def regular_file(source: Readable) -> IO[bytes] | None:
    """Return what is read, where it is a file on disk, at its beginning."""
    try:
        descriptor = source.fileno()  # type: ignore[attr-defined]
    except (AttributeError, OSError):
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        return None
    file = cast("IO[bytes]", source)
    return file if file.tell() == 0 else None
