# SPDX-License-Identifier: GPL-3.0-or-later
"""Read an archive while it is copied from one place to another."""

import contextlib
import io
import tarfile
from collections.abc import Callable, Iterator

from incus_testbed import errors
from incus_testbed.image.stream.source import CHUNK
from incus_testbed.limits.budget import Budget

#: Two blocks of zeros end an archive (POSIX.1, pax, "ustar Interchange").
END = bytes(2 * tarfile.BLOCKSIZE)

#: Exceptions that tarfile raises for invalid headers.
NONSENSE = (
    tarfile.TarError,
    ArithmeticError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)


class Passage(io.RawIOBase):
    """A file that is read forwards; approved bytes are copied unchanged.

    When reading moves past a byte before the approved position, the byte is
    written with ``write``.  Bytes after that position stay in memory and can
    be read again.  They may only be a member's headers, up to the budget.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        write: Callable[[bytes | memoryview], None],
        budget: Budget,
    ) -> None:
        """Begin at position 0 with nothing approved.

        ``read`` returns at most as many bytes as requested, none at the end.
        """
        super().__init__()
        self._source = read
        self._write = write
        self._budget = budget
        self._buffer = b""
        self._base = 0  # the position of the buffer's first byte
        self._position = 0
        self.approved = 0
        self._exhausted = False

    def archive(self) -> tarfile.TarFile:
        """Return tarfile's reader of the archive.

        :raises errors.BadImage: the archive is damaged
        """
        with self.sense():
            return tarfile.TarFile(
                fileobj=self, encoding="utf-8", errors="surrogateescape"
            )

    @contextlib.contextmanager
    def sense(self) -> Iterator[None]:
        """Report tarfile's exceptions as a damaged archive."""
        try:
            yield
        except NONSENSE as problem:
            raise self.damaged(str(problem)) from None

    def damaged(self, details: str) -> errors.BadImage:
        """Return the error for an archive that can't be read any further."""
        return errors.BadImage(
            f"The archive is {'cut short' if self._exhausted else 'corrupt'}",
            details=f"{details} (read up to byte {self._position})",
            resolution="Download the file again, or build it again.",
        )

    def approve(self, position: int) -> None:
        """Approve all bytes before a position, which must be after the last.

        :raises tarfile.ReadError: it is not: a header has a wrong size
        """
        if position <= self.approved:
            raise tarfile.ReadError("a member ends before it begins")
        self.approved = position

    def tell(self) -> int:
        """Return the position the next byte will be read from."""
        return self._position

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position whose bytes have not been written yet.

        :raises tarfile.ReadError: they have been written
        """
        if whence != io.SEEK_SET or position < self._base:
            raise tarfile.ReadError("a header leads back before itself")
        self._position = position
        return position

    def read(self, size: int = -1) -> bytes:
        """Return size bytes, fewer only at the end.

        :raises tarfile.ReadError: size is negative
        :raises errors.BadImage: a member's headers would exceed the budget
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
        data = self._buffer[self._position - self._base : end - self._base]
        self._position += len(data)
        return data

    def finish(self) -> Iterator[bytes]:
        """Write the approved bytes; yield the rest, which is not written."""
        self.seek(self.approved)
        self._pass_on()
        yield self._buffer
        while chunk := self._source(CHUNK):
            yield chunk

    def _refill(self) -> bool:
        """Read on: at least as much as is held, so that it is copied once."""
        self._pass_on()
        pieces = [self._buffer] if self._buffer else []
        wanted = len(self._buffer) or 1
        size = 0
        while size < wanted and (chunk := self._source(CHUNK)):
            pieces.append(chunk)
            size += len(chunk)
        self._buffer = b"".join(pieces)
        self._exhausted = not size
        return bool(size)

    def _pass_on(self) -> None:
        place = min(self.approved, self._position)
        cut = min(place - self._base, len(self._buffer))
        if cut > 0:
            with memoryview(self._buffer) as view:
                self._write(view[:cut])
            self._buffer = self._buffer[cut:]
            self._base += cut
