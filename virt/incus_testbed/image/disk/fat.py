# SPDX-License-Identifier: GPL-3.0-or-later
"""Read files with short names on a FAT16 or FAT32 file system.

Firmware looks for boot loaders there.  The format is described in Microsoft's
"FAT: General Overview of On-Disk Format".  Debian 12 and 13 have no Python
binding of libfsfat; for python3-tsk and mtools see __init__.py.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from incus_testbed import errors
from incus_testbed.image.disk.partitions import Partition, Read

# Of the first sector: bytes of a sector, sectors of a cluster, reserved
# sectors, number of tables, entries of the root folder, sectors of the disk,
# sectors of a table; the last two with 32 bits; first cluster of the root.
_SECTOR_FIELDS = struct.Struct("<11xHBHBHHxH8xII4xI")
_ENTRY = 32
_DIRECTORY = 0x10
_LABEL = 0x08  # parts of long names have it, too
_FREE = 0xE5
_DOT = ord(".")  # begins "." and ".."

#: A file system with fewer clusters is FAT12.
_LEAST_16 = 4085
#: These mark the end of a file; every cluster's number is smaller.
_END_16, _END_32 = 0xFFF8, 0x0FFF_FFF8
_SECTORS = {512, 1024, 2048, 4096}
_LARGEST_FOLDER = 1 << 20


@dataclass(frozen=True, kw_only=True)
class File:
    """A file or folder; ``cluster`` is its first one, ``size`` is in bytes."""

    cluster: int
    size: int
    folder: bool


class Fat:
    """A file system in a partition.

    :raises errors.BadImage: (by every method) it is not FAT, or it is damaged
    """

    def __init__(self, read: Read, partition: Partition) -> None:
        """Read the first sector."""
        self._read_disk = read
        self._start = partition.start
        sector = self._read(0, 512)
        unit, per_cluster, reserved, fats, entries, *fields = (
            _SECTOR_FIELDS.unpack_from(sector)
        )
        count, fat_size, large, fat_size_32, first_32 = fields
        if (
            sector[510:512] != b"\x55\xaa"
            or unit not in _SECTORS
            or not per_cluster
        ):
            raise _damaged("it is not a FAT file system")
        self._fat = reserved * unit
        root = self._fat + fats * (fat_size or fat_size_32) * unit
        self._data = root + entries * _ENTRY
        self._cluster = per_cluster * unit
        clusters = ((count or large) * unit - self._data) // self._cluster
        # Linux decides by this field.  Firmware counts the clusters, so it
        # does not take a small partition made by mkfs.vfat -F 32 for FAT32.
        self._is_32 = not fat_size
        if not self._is_32 and clusters < _LEAST_16:
            raise _damaged("FAT12 is too small for an EFI system partition")
        # In FAT16 the root folder is not made of clusters.
        self._fixed_root = (root, entries * _ENTRY)
        first = first_32 if self._is_32 else 0
        self._root = File(cluster=first, size=_LARGEST_FOLDER, folder=True)

    def names(self, *path: str) -> dict[str, File]:
        """Return the files in a folder, by their names in upper case.

        The result is empty if there is no such folder.  Only short (8.3) names
        are read, which every boot loader has.
        """
        folder = self._root
        for name in path:
            found = self._entries(folder).get(name)
            if not found or not found.folder:
                return {}
            folder = found
        return self._entries(folder)

    def read(self, file: File, offset: int, size: int) -> bytes:
        """Return bytes of a file, fewer at its end."""
        parts = []
        size = min(size, file.size - offset)
        for start, length in self._stretches(file, offset + size):
            if size > 0 and offset < length:
                parts.append(
                    self._read(start + offset, min(size, length - offset))
                )
                size -= len(parts[-1])
            offset = max(offset - length, 0)
        return b"".join(parts)

    def _entries(self, folder: File) -> dict[str, File]:
        found = {}
        for record in self._records(folder):
            attributes = record[11]
            if record[0] in {_FREE, _DOT} or attributes & _LABEL:
                continue
            stem, suffix = record[:8].rstrip(), record[8:11].rstrip()
            name = b".".join(filter(None, (stem, suffix)))
            high, low, size = struct.unpack("<20xH4xHI", record)
            is_folder = bool(attributes & _DIRECTORY)
            found[name.decode("latin-1")] = File(
                cluster=high << 16 | low,
                size=_LARGEST_FOLDER if is_folder else size,
                folder=is_folder,
            )
        return found

    def _records(self, folder: File) -> Iterator[bytes]:
        for start, length in self._stretches(folder, _LARGEST_FOLDER):
            data = self._read(start, min(length, _LARGEST_FOLDER))
            for offset in range(0, len(data), _ENTRY):
                if not data[offset]:
                    return
                yield data[offset : offset + _ENTRY]

    def _stretches(self, file: File, size: int) -> Iterator[tuple[int, int]]:
        """Yield the offsets and lengths of a file's first bytes."""
        if file is self._root and not self._is_32:
            yield self._fixed_root
            return
        width, end = (4, _END_32) if self._is_32 else (2, _END_16)
        cluster = file.cluster
        for _ in range(-(-size // self._cluster)):
            if cluster < 2 or cluster >= end:  # noqa: PLR2004 - the first one
                return
            yield self._data + (cluster - 2) * self._cluster, self._cluster
            link = self._read(self._fat + cluster * width, width)
            cluster = int.from_bytes(link, "little") & 0x0FFF_FFFF

    def _read(self, offset: int, size: int) -> bytes:
        return self._read_disk(self._start + offset, size)


def _damaged(details: str) -> errors.BadImage:
    return errors.BadImage(
        "The disk's EFI system partition can't be read",
        details=f"{details[:1].upper()}{details[1:]}.",
        resolution="It has to hold a FAT file system with EFI/BOOT.",
    )
