# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that is converted, read once."""

import hashlib
from collections.abc import Callable
from typing import Protocol

#: How much is asked for at once: large enough that Python is not felt.
CHUNK = 1 << 20


class Readable(Protocol):
    """What bytes can be read from: a file, a pipe, a download."""

    def read(self, size: int, /) -> bytes:
        """Return up to size bytes, none at the end only."""


class Source:
    """The bytes that were given, counted and hashed on their way through."""

    def __init__(
        self, file: Readable, progress: Callable[[int], None] | None
    ) -> None:
        """Read file from where it stands; tell progress how far it is."""
        self._file = file
        self._progress = progress
        self._hash = hashlib.sha256()
        self._head = b""
        self.size = 0

    @property
    def sha256(self) -> str:
        """The SHA-256 of what has been read, in hexadecimal."""
        return self._hash.hexdigest()

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
        """Return up to size bytes (once: the head), none at the end."""
        if self._head:
            head, self._head = self._head, b""
            return head
        return self._next(size)

    def drain(self) -> None:
        """Read what is left."""
        while self.read(CHUNK):
            pass

    def _next(self, size: int) -> bytes:
        chunk = self._file.read(size)
        self._hash.update(chunk)
        self.size += len(chunk)
        if self._progress and chunk:
            self._progress(self.size)
        return chunk
