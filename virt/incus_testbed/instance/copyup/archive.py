# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the tar archive that a guest sends, without trusting it.

The guest's tar is told to use GNU tar's own format ("Basic Tar Format" in the
manual of GNU tar).  Its options allow only the kinds of members that are known
here, so everything else is damage.

Python's tarfile is not used: it keeps names, sparse maps and PAX headers of any
size in memory, and for small files it is slower than GNU tar in the guest.
"""

import struct
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Literal, NamedTuple

from incus_testbed import errors
from incus_testbed.instance.copyup.path import PATH_MAX
from incus_testbed.instance.copyup.source import Source

Kind = Literal["file", "folder", "symlink", "hardlink", "other"]


_BLOCK = 512
# name, mode, (owner), size, mtime, checksum, type, link target, magic
_HEADER = struct.Struct("100s8s16x12s12s8sc100s8s247x")
_CHECKSUM = slice(148, 156)
_HALF = _BLOCK // 2
_MAGIC = b"ustar  \0"
_KINDS: dict[bytes, Kind] = {
    b"0": "file",
    b"1": "hardlink",
    b"2": "symlink",
    b"5": "folder",
    b"3": "other",  # a device
    b"4": "other",
    b"6": "other",  # a FIFO
}
_LONG_PATH, _LONG_TARGET = b"L", b"K"
_END = bytes(_BLOCK)
#: The first byte of a number that is binary.
_POSITIVE, _NEGATIVE = 0x80, 0xFF
#: The number of blocks that tar writes at once, a record.  tar's default is 20;
#: a larger record means fewer reads and writes on the way to this process.
RECORD = 128
#: The end marker is two blocks, and more of them until a record is full.  The
#: first of the two may be the last block of a record.
_SHORTEST_END, _LONGEST_END = 2, RECORD + 1
#: This shell command in the guest sends one more block after the archive.  It
#: says that tar did not fail.  The end of the pipe and the exit status come
#: later, when the daemon has noticed that the command ended.
SAY_WHOLE = f"printf '%{_BLOCK}s' whole"
_WHOLE = b"whole".rjust(_BLOCK)
_LATEST = 1 << 33  # seconds: the year 2242


class Damaged(errors.CommandFailed):
    """The guest did not send the archive that it was asked for."""

    def __init__(self, details: str) -> None:
        """Say what is wrong with it."""
        super().__init__(
            "The testbed sent no tar archive, or a damaged one", details=details
        )


class Member(NamedTuple):
    """The header of one member of the archive, unchecked.

    ``path`` and a link's ``target`` hold no NUL, and are not longer than
    PATH_MAX.  ``mtime`` is in seconds, ``size`` is a file's size in bytes.
    """

    path: bytes
    kind: Kind
    mode: int
    mtime: int
    size: int
    target: bytes


class Archive:
    """The members of an archive, in their order."""

    def __init__(self, source: Source) -> None:
        """Read the archive from ``source``."""
        self._source = source
        self._content = 0

    def members(self) -> Iterator[Member]:
        """Yield the members, and then read the end of the archive.

        A file's content is skipped unless copy() is called for it.

        :raises Damaged: it is not a valid archive
        :raises source.Ended: it ends too early
        """
        path = target = b""
        while (block := self._source.read(_BLOCK)) != _END:
            name, mode, size, mtime, checksum, type_, link, magic = (
                _HEADER.unpack(block)
            )
            _check(block, checksum, magic)
            length = _number(size)
            if type_ == _LONG_PATH and not path:
                path = self._long(length)
            elif type_ == _LONG_TARGET and not target:
                target = self._long(length)
            elif kind := _KINDS.get(type_):
                if length < 0 or (length and kind != "file"):
                    raise Damaged(f"A {kind} has {length} bytes")
                self._content = length
                yield Member(
                    path=path or name.partition(b"\0")[0],
                    kind=kind,
                    mode=_number(mode),
                    mtime=_time(mtime),
                    size=length,
                    target=target or link.partition(b"\0")[0],
                )
                path = target = b""
                if self._content:
                    self._source.skip(_padded(self._content))
                    self._content = 0
            else:
                raise Damaged(f"A member is of the type {type_!r}")
        self._read_end()

    def copy(self, file: int) -> None:
        """Write the content of the last yielded member to an empty file."""
        size, self._content = self._content, 0
        self._source.copy(size, file)
        self._source.skip(_padded(size) - size)

    def _long(self, length: int) -> bytes:
        """Return a long name; of a name that is too long, its beginning."""
        if length <= 1:
            raise Damaged(f"A name has {length} bytes")
        kept = min(length, PATH_MAX)
        text, end, rest = self._source.read(kept).partition(b"\0")
        self._source.skip(_padded(length) - kept)
        if not text or rest or bool(end) != (length <= PATH_MAX):
            raise Damaged("A name holds a NUL, or has no end")
        return text

    def _read_end(self) -> None:
        """Read the rest of the end marker, after its first block."""
        length = 1
        while (block := self._source.read_or_end(_BLOCK)) == _END:
            length += 1
            if length > _LONGEST_END:
                break
        self._source.whole = block == _WHOLE
        if block and not self._source.whole:
            raise Damaged("There is data after its end")
        if length < _SHORTEST_END:
            raise Damaged("It has no end marker")


def _check(block: bytes, checksum: bytes, magic: bytes) -> None:
    if magic != _MAGIC:
        raise Damaged("A member's header is not GNU tar's")
    # The checksum itself counts as spaces.
    sum_ = _sum(block) - sum(block[_CHECKSUM]) + 8 * ord(" ")
    if _number(checksum) != sum_:
        raise Damaged("The checksum of a member's header is wrong")


def _sum(block: bytes) -> int:
    """Return the sum of a block's bytes.

    A sum in Python takes longer than the writing of a small file.  The lower
    half of an Adler-32 is the sum of the bytes plus one, if that is below
    65521.
    """
    first, second = zlib.adler32(block[:_HALF]), zlib.adler32(block[_HALF:])
    return (first & 0xFFFF) + (second & 0xFFFF) - 2


# Most members have one of a few modes, times and sizes.
@lru_cache(maxsize=1024)
def _number(field: bytes) -> int:
    """Return a number: octal digits, or binary if it needs more digits."""
    if field[0] == _POSITIVE:
        return int.from_bytes(field[1:], "big")
    if field[0] == _NEGATIVE:
        return int.from_bytes(field, "big", signed=True)
    digits = field.strip(b" \0") or b"0"
    if not digits.isdigit() or b"8" in digits or b"9" in digits:
        raise Damaged("A number in a member's header is not a number")
    return int(digits, 8)


@lru_cache(maxsize=1024)
def _time(field: bytes) -> int:
    """Return a time, limited to what a file system can store."""
    return max(-_LATEST, min(_number(field), _LATEST))


def _padded(size: int) -> int:
    return -(-size // _BLOCK) * _BLOCK
