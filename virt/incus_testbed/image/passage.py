# SPDX-License-Identifier: GPL-3.0-or-later
"""A stream that is read on its way from one place to another."""

import io
import tarfile
from collections.abc import Callable, Iterator

from incus_testbed.image.budget import Budget
from incus_testbed.image.source import CHUNK


class Passage(io.RawIOBase):
    """A file to read forwards; what has been approved goes on unchanged.

    Bytes before the approved position are handed to ``write`` as reading
    moves beyond them.  What lies behind it stays, and can be read again.
    Beyond it only a member's headers are read, up to the budget.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        write: Callable[[bytes | memoryview], None],
        budget: Budget,
    ) -> None:
        """Begin at position 0 with nothing approved.

        ``read`` returns up to as many bytes as asked for, none at the end.
        """
        super().__init__()
        self._source = read
        self._write = write
        self._budget = budget
        self._buffer = bytearray()
        self._base = 0  # the position of the buffer's first byte
        self._position = 0
        self.approved = 0
        self.exhausted = False

    def approve(self, position: int) -> None:
        """Let everything before a position, later than the last, go on.

        :raises tarfile.ReadError: it is not later: a header lied
        """
        if position <= self.approved:
            raise tarfile.ReadError("a member ends before it begins")
        self.approved = position

    def tell(self) -> int:
        """Return the position the next byte will be read from."""
        return self._position

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position that has not been passed on."""
        if whence != io.SEEK_SET or position < self._base:
            raise tarfile.ReadError("a header leads back before itself")
        self._position = position
        return position

    def read(self, size: int = -1) -> bytes:
        """Return size bytes, fewer only at the end.

        :raises tarfile.ReadError: size is negative
        :raises errors.BadImage: so much can't be a member's headers
        """
        if size < 0:
            raise tarfile.ReadError(f"{size} bytes are wanted")
        end = self._position + size
        headers = end - self.approved
        if headers > self._budget.header_bytes:
            raise self._budget.refusal(
                "header_bytes",
                "The archive's headers are too long",
                f"Those of the member at byte {self.approved} have at least"
                f" {headers} bytes.",
            )
        while self._base + len(self._buffer) < end and self._refill():
            pass
        start = self._position - self._base
        with memoryview(self._buffer) as view:
            data = bytes(view[start : end - self._base])
        self._position += len(data)
        return data

    def finish(self) -> Iterator[bytes]:
        """Pass on what is approved; yield the rest, which does not go on."""
        self.seek(self.approved)
        self._pass_on()
        yield bytes(self._buffer)
        while chunk := self._source(CHUNK):
            yield chunk

    def _refill(self) -> bool:
        self._pass_on()
        chunk = self._source(CHUNK)
        self._buffer += chunk
        self.exhausted = not chunk
        return bool(chunk)

    def _pass_on(self) -> None:
        cut = min(
            min(self.approved, self._position) - self._base, len(self._buffer)
        )
        if cut > 0:
            with memoryview(self._buffer) as view:
                self._write(view[:cut])
            del self._buffer[:cut]
            self._base += cut
