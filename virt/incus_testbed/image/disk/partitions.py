# SPDX-License-Identifier: GPL-3.0-or-later
"""Read partition tables: GPT (UEFI specification 2.10, chapter 5), and MBR.

python3-vsgpt is in Debian 13 only, and has no MBR; for python3-tsk and sfdisk
see __init__.py.
"""

import itertools
import struct
import uuid
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from incus_testbed import errors

#: Reads size bytes of a disk at an offset.
Read = Callable[[int, int], bytes]

_MBR_SECTOR = 512
_SECTORS = (512, 4096)
_ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
_ESP_MBR = 0xEF
_PROTECTIVE = 0xEE

# Signature, revision, size and CRC of the header, reserved, place of this
# header and of its copy, first and last usable sector, id of the disk, place,
# number, size and CRC of the entries.
_HEADER = struct.Struct("<8s4sII4xQQQQ16sQIII")
_ENTRY = struct.Struct("<16s16sQQ")
_MOST_ENTRIES = 1024
_MOST_SIZE = 4096


@dataclass(frozen=True, kw_only=True)
class Partition:
    """A part of a disk, in bytes; ``esp``: it is an EFI system partition."""

    start: int
    size: int
    esp: bool


def partitions(read: Read, size: int) -> list[Partition]:
    """Return the partitions of a disk, in the table's order.

    In an MBR only primary partitions are read.

    :raises errors.BadImage: there is no table, or it does not fit the disk
    """
    for sector in _SECTORS:
        if read(sector, 8) == b"EFI PART":
            found = list(_gpt(read, sector))
            break
    else:
        if read(510, 2) != b"\x55\xaa":
            raise errors.BadImage(
                "The disk has no partition table",
                resolution="Use the image of a whole disk that boots by EFI,"
                " not of one file system.",
            )
        found = list(_mbr(read(0, _MBR_SECTOR)))
    if any(part.start + part.size > size for part in found):
        raise errors.BadImage(
            "The disk is cut short",
            details=f"It has {size} bytes, but a partition ends after that.",
            resolution="Download the file again, or build it again.",
        )
    # The same bytes of overlapping partitions would be read again and again.
    apart = sorted(found, key=lambda part: part.start)
    for part, following in itertools.pairwise(apart):
        if part.start + part.size > following.start:
            raise _damaged("two partitions overlap")
    return found


def _gpt(read: Read, sector: int) -> Iterator[Partition]:
    fields = _HEADER.unpack(read(sector, _HEADER.size))
    length, checksum = fields[2:4]
    place, count, size, entries_checksum = fields[-4:]
    if (
        not _HEADER.size <= length <= sector
        or count > _MOST_ENTRIES
        or not _ENTRY.size <= size <= _MOST_SIZE
    ):
        raise _damaged("its header makes no sense")
    header = bytearray(read(sector, length))
    header[16:20] = bytes(4)  # where the checksum itself is
    entries = read(place * sector, count * size)
    if (
        zlib.crc32(header) != checksum
        or zlib.crc32(entries) != entries_checksum
    ):
        raise _damaged("a checksum is wrong")
    for offset in range(0, len(entries), size):
        kind, _, first, last = _ENTRY.unpack_from(entries, offset)
        if kind == bytes(16):
            continue
        if last < first:
            raise _damaged("a partition ends before it begins")
        yield Partition(
            start=first * sector,
            size=(last + 1 - first) * sector,
            esp=uuid.UUID(bytes_le=kind) == _ESP,
        )


def _mbr(record: bytes) -> Iterator[Partition]:
    for offset in range(446, 510, 16):
        kind = record[offset + 4]
        first, count = struct.unpack_from("<II", record, offset + 8)
        if kind not in {0, _PROTECTIVE} and count:
            yield Partition(
                start=first * _MBR_SECTOR,
                size=count * _MBR_SECTOR,
                esp=kind == _ESP_MBR,
            )


def _damaged(details: str) -> errors.BadImage:
    return errors.BadImage(
        "The disk's partition table is damaged",
        details=f"{details[:1].upper()}{details[1:]}.",
        resolution="Download the file again, or build it again.",
    )
