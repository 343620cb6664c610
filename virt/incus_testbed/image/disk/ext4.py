# SPDX-License-Identifier: GPL-3.0-or-later
"""Read files of an ext2, ext3 or ext4 file system.

The format is described in Linux's Documentation/filesystems/ext4.  The journal
is not replayed: files are read as they are on the disk.

Debian 12's python3-libfsext can't open what Debian 13's mke2fs makes, with
orphan_file and metadata_csum_seed; for python3-tsk see __init__.py.
"""

import stat
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from incus_testbed import errors
from incus_testbed.image.disk.partitions import Partition, Read

_SUPERBLOCK = 1024
# Of the superblock: number of inodes, size of a block, inodes of a group,
# revision, size of an inode, incompatible features, size of a descriptor.
_SUPERBLOCK_FIELDS = struct.Struct("<I20xI12xI32xI8xH6xI154xH")
# Of an inode: mode, lower half of the size, flags, blocks, upper half.
_INODE_FIELDS = struct.Struct("<H2xI24xI4x60s8xI")
_MAGIC = b"\x53\xef"
_ROOT = 2

_INCOMPAT_META_BG = 0x10
_INCOMPAT_64BIT = 0x80
_INCOMPAT_ENCRYPT = 0x10000

_OLD_DESCRIPTOR = 32

_EXTENTS = 0x80000
_INLINE_DATA = 0x1000_0000
_EXTENT_MAGIC = 0xF30A
_DEEPEST = 5
_UNWRITTEN = 0x8000

#: Bytes; the real directories that are read here have up to about 100 KB.
_LARGEST_DIRECTORY = 2 << 20


@dataclass(frozen=True, kw_only=True)
class Inode:
    """A file of any kind; ``mode`` as in stat(2), ``size`` in bytes."""

    mode: int
    size: int
    flags: int
    block: bytes
    #: The bytes after the fixed part: attributes, which may hold inline data.
    attributes: bytes


class Ext4:
    """A file system in a partition.

    :raises errors.BadImage: (by every method) the file system is damaged
    """

    def __init__(self, read: Read, partition: Partition) -> None:
        """Read from a partition for which ``is_ext4`` is true."""
        self._read_disk = read
        self._start = partition.start
        block = self._read(_SUPERBLOCK, 1024)
        self._count, log_size, self._per_group, *fields = (
            _SUPERBLOCK_FIELDS.unpack_from(block)
        )
        revision, inode_size, incompat, descriptor = fields
        self._inode_size = inode_size if revision else 128
        if (
            log_size > 6  # noqa: PLR2004 - blocks of 64 KiB
            or not self._per_group
            or not 128 <= self._inode_size <= 65536  # noqa: PLR2004
            or (incompat & _INCOMPAT_64BIT and descriptor < _OLD_DESCRIPTOR)
            or incompat & (_INCOMPAT_META_BG | _INCOMPAT_ENCRYPT)
        ):
            raise _damaged("its superblock makes no sense, or is too new")
        self._block = 1024 << log_size
        self._descriptor = (
            descriptor if incompat & _INCOMPAT_64BIT else _OLD_DESCRIPTOR
        )
        # in the block after the superblock
        self._descriptors = (_SUPERBLOCK // self._block + 1) * self._block

    def names(self, path: str, *, below: int = _ROOT) -> dict[str, int]:
        """Return the names in a directory, and their inode numbers.

        The path is relative to the directory whose inode number is ``below``.
        Symbolic links in the path are not followed.  The result is empty if
        there is no such directory.
        """
        inode = self.inode(below)
        for name in filter(None, path.split("/")):
            number = self._children(inode).get(name)
            if number is None:
                return {}
            inode = self.inode(number)
        return self._children(inode)

    def content(self, inode: Inode, most: int) -> bytes:
        """Return a file's first bytes, or the target of a symbolic link."""
        size = min(inode.size, most)
        if inode.flags & _INLINE_DATA:
            return (inode.block + _inline(inode.attributes))[:size]
        if stat.S_ISLNK(inode.mode) and inode.size < len(inode.block):
            return inode.block[:size]
        data = bytearray(size)
        blocks = -(-size // self._block)
        for logical, physical, count in self._stretches(inode, blocks):
            start = logical * self._block
            length = min(count * self._block, size - start)
            if length > 0:
                data[start : start + length] = self._read(
                    physical * self._block, length
                )
        return bytes(data)

    def _children(self, inode: Inode) -> dict[str, int]:
        if not stat.S_ISDIR(inode.mode):
            return {}
        if inode.size > _LARGEST_DIRECTORY:
            raise _damaged(f"a directory has {inode.size} bytes")
        data = self.content(inode, _LARGEST_DIRECTORY)
        parts = (
            [data[4:60], data[60:]]
            if inode.flags & _INLINE_DATA
            else [
                data[start : start + self._block]
                for start in range(0, len(data), self._block)
            ]
        )
        return {
            name: number
            for part in parts
            for name, number in _entries(part)
            if name not in {".", ".."}
        }

    def inode(self, number: int) -> Inode:
        """Return a file by its number."""
        if not 0 < number <= self._count:
            raise _damaged(f"there is no inode {number}")
        group, index = divmod(number - 1, self._per_group)
        place = self._descriptors + group * self._descriptor
        record = self._read(place, self._descriptor)
        # A descriptor of 32 bytes has no upper half.
        table = int.from_bytes(record[8:12] + record[0x28:0x2C], "little")
        raw = self._read(
            table * self._block + index * self._inode_size, self._inode_size
        )
        mode, low, flags, block, high = _INODE_FIELDS.unpack_from(raw)
        extra = int.from_bytes(raw[128:130], "little")
        return Inode(
            mode=mode,
            # in old file systems a directory uses this field differently
            size=low | (high << 32 if stat.S_ISREG(mode) else 0),
            flags=flags,
            block=block,
            attributes=raw[128 + extra :],
        )

    def _stretches(
        self, inode: Inode, blocks: int
    ) -> Iterator[tuple[int, int, int]]:
        """Yield a file's first blocks as (logical, physical, count)."""
        if inode.flags & _EXTENTS:
            # In a node each extent but the last has at least one block.
            nodes = iter(range(blocks + _DEEPEST))
            yield from self._extents(inode.block, _DEEPEST, nodes)
            return
        pointers = struct.unpack("<15I", inode.block)
        yield from (
            (n, block, 1) for n, block in enumerate(pointers[:12]) if block
        )
        start = 12
        for depth, block in enumerate(pointers[12:], 1):
            yield from self._indirect(block, start, depth, blocks)
            start += (self._block // 4) ** depth

    def _indirect(
        self, block: int, start: int, depth: int, end: int
    ) -> Iterator[tuple[int, int, int]]:
        if not block or start >= end:
            return
        if not depth:
            yield start, block, 1
            return
        count = self._block // 4
        pointers = struct.unpack(
            f"<{count}I", self._read(block * self._block, self._block)
        )
        step = count ** (depth - 1)
        for n, pointer in enumerate(pointers):
            yield from self._indirect(pointer, start + n * step, depth - 1, end)

    def _extents(
        self, node: bytes, deepest: int, nodes: Iterator[int]
    ) -> Iterator[tuple[int, int, int]]:
        """Yield a tree's extents; reads at most as many nodes as ``nodes``."""
        magic, entries, _, depth = struct.unpack_from("<HHHH", node)
        if (
            magic != _EXTENT_MAGIC
            or depth > deepest
            or next(nodes, None) is None
        ):
            raise _damaged("an extent tree makes no sense")
        for offset in range(12, min(12 + 12 * entries, len(node) - 11), 12):
            if depth:
                low, high = struct.unpack_from("<4xIH", node, offset)
                block = (high << 32 | low) * self._block
                yield from self._extents(
                    self._read(block, self._block), depth - 1, nodes
                )
                continue
            logical, count, high, low = struct.unpack_from(
                "<IHHI", node, offset
            )
            if count <= _UNWRITTEN:
                yield logical, high << 32 | low, count

    def _read(self, offset: int, size: int) -> bytes:
        return self._read_disk(self._start + offset, size)


def is_ext4(read: Read, partition: Partition) -> bool:
    """Tell whether a partition holds a file system of this family."""
    return read(partition.start + _SUPERBLOCK + 56, 2) == _MAGIC


def _entries(data: bytes) -> Iterator[tuple[str, int]]:
    """Yield names and inode numbers of one block of a directory."""
    offset = 0
    while offset + 8 <= len(data):
        number, length, name = struct.unpack_from("<IHB", data, offset)
        if length < 8:  # noqa: PLR2004 - an entry's header
            return
        if number and name:
            yield (
                data[offset + 8 : offset + 8 + name].decode(
                    errors="surrogateescape"
                ),
                number,
            )
        offset += length


def _inline(attributes: bytes) -> bytes:
    """Return the rest of inline data, which is kept in an attribute."""
    if attributes[:4] != b"\0\0\2\xea":
        return b""
    entries = attributes[4:]
    offset = 0
    while offset + 16 <= len(entries) and entries[offset]:
        length, index, place, _, size = struct.unpack_from(
            "<BBHII", entries, offset
        )
        name = entries[offset + 16 : offset + 16 + length]
        if index == 7 and name == b"data":  # noqa: PLR2004 - "system."
            return entries[place : place + size]
        offset += (16 + length + 3) // 4 * 4
    return b""


def _damaged(details: str) -> errors.BadImage:
    return errors.BadImage(
        "The disk's root file system is damaged",
        details=f"{details[:1].upper()}{details[1:]}.",
        resolution="Build the image again, or check it with e2fsck.",
    )
