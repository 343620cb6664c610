# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives as a guest could send them that means harm."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from incus_testbed.instance.copyup.source import Source

BLOCK = 512
END = bytes(2 * BLOCK)


@dataclass(frozen=True, kw_only=True)
class Member:
    """A member with a header that may say anything."""

    path: bytes
    type: bytes = b"0"
    mode: int = 0o644
    mtime: int = 1_000_000_000
    size: int | None = None
    target: bytes = b""
    content: bytes = b""

    def blocks(self) -> bytes:
        """Return it as GNU tar writes it."""
        long = b"".join(
            _header(b"././@LongLink", type_, len(text) + 1, b"", 0, 0)
            + _padded(text + b"\0")
            for type_, text in ((b"L", self.path), (b"K", self.target))
            if len(text) > 100
        )
        size = len(self.content) if self.size is None else self.size
        header = _header(
            *(self.path, self.type, size, self.target, self.mode, self.mtime)
        )
        return long + header + _padded(self.content)


def file(path: bytes, content: bytes = b"x", mode: int = 0o644) -> Member:
    """Return a regular file."""
    return Member(path=path, content=content, mode=mode)


def folder(path: bytes, mode: int = 0o755) -> Member:
    """Return a folder."""
    return Member(path=path, type=b"5", mode=mode)


def symlink(path: bytes, target: bytes) -> Member:
    """Return a symbolic link."""
    return Member(path=path, type=b"2", target=target, mode=0o777)


def hardlink(path: bytes, target: bytes) -> Member:
    """Return a hard link."""
    return Member(path=path, type=b"1", target=target)


def archive(*members: Member) -> bytes:
    """Return an archive of members, with its end."""
    return b"".join(member.blocks() for member in members) + END


def set_checksum(data: bytearray, place: int) -> None:
    """Make the checksum right of the header that ``place`` may be in."""
    start = place // BLOCK * BLOCK
    block = data[start : start + BLOCK]
    sum_ = sum(block[:148]) + sum(block[156:]) + 8 * ord(" ")
    data[start + 148 : start + 156] = b"%06o\0 " % sum_


def _header(
    path: bytes, type_: bytes, size: int, target: bytes, mode: int, mtime: int
) -> bytes:
    block = b"".join(
        (
            path[:100].ljust(100, b"\0"),
            _octal(mode, 8) + _octal(0, 8) * 2,
            _octal(size, 12) + _octal(mtime, 12),
            b" " * 8 + type_ + target[:100].ljust(100, b"\0"),
            b"ustar  \0".ljust(255, b"\0"),
        )
    )
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _octal(number: int, width: int) -> bytes:
    digits = b"%0*o" % (width - 1, number) if number >= 0 else b"-"
    if len(digits) < width and number >= 0:
        return digits + b"\0"
    sign = b"\xff" if number < 0 else b"\x80"
    return sign + number.to_bytes(width, "big", signed=True)[1:]


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % BLOCK)


@contextmanager
def sent(data: bytes) -> Iterator[Source]:
    """Have a guest send this."""
    read, write = os.pipe()

    def feed() -> None:
        try:
            with os.fdopen(write, "wb", buffering=0) as pipe:
                left = memoryview(data)
                while left:
                    left = left[pipe.write(left) :]
        except BrokenPipeError:
            pass  # as it happens to who sends nonsense

    feeder = threading.Thread(target=feed)
    feeder.start()
    try:
        yield Source(read)
    finally:
        os.close(read)
        feeder.join()
