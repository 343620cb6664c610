# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a disk, at any place, from a qcow2 file.

Debian's python3-libqcow (20201213) gives old or other data for clusters that
``qemu-io -c "write -z"`` has made zero; qemu-nbd is another process, with a
disk driver for every format, and needs a socket.
"""

import array
import functools
import os
import sys
import zlib
from typing import IO

from incus_testbed.image.disk import qcow2
from incus_testbed.image.disk.qcow2 import Header
from incus_testbed.limits.budget import Meter

#: Tables and unpacked clusters that are kept in memory: the number of each,
#: and the most bytes of each.
_KEPT = 32
_KEPT_BYTES = 8 << 20

_SECTOR = 512


class Reader:
    """The disk in a plain qcow2 image.

    Memory is bounded: it holds the first table, which has up to 32 MiB, a few
    dozen clusters, and the requested bytes.
    """

    def __init__(self, file: IO[bytes], header: Header, meter: Meter) -> None:
        """Read from a file that has a descriptor; ``meter`` counts the reads.

        Every read raises errors.BadImage if there are too many.
        """
        self.file = file
        self._fd = file.fileno()
        self._header = header
        self._cluster = 1 << header.cluster_bits
        self._clusters = -(-header.size // self._cluster)
        self.size = header.size
        self._meter = meter
        # caches of this object; caches of the class would outlive it
        kept = max(2, min(_KEPT, _KEPT_BYTES // self._cluster))
        self._table = functools.lru_cache(kept)(self._read_table)
        self._unpacked = functools.lru_cache(kept)(self._unpack)

    def read(self, offset: int, size: int) -> bytes:
        """Return size bytes; bytes after the disk's end are zero.

        :raises errors.BadImage: the image is damaged there
        """
        self._meter.count_read(size)
        parts = []
        while size > 0:
            cluster, within = divmod(offset, self._cluster)
            parts.append(
                self._part(cluster, within, min(size, self._cluster - within))
            )
            offset += len(parts[-1])
            size -= len(parts[-1])
        return b"".join(parts)

    def check(self) -> int:
        """Check that the file holds every cluster that its tables name.

        Returns how many bytes of the disk are in use.

        :raises errors.BadImage: the file is cut short, or damaged
        """
        end = os.fstat(self._fd).st_size
        per_table = self._cluster // 8
        last = self._clusters - 1
        used = 0
        for index, place in enumerate(self._tables):
            if not place & qcow2.OFFSET:
                continue
            if place & qcow2.OFFSET >= end:
                raise qcow2.damaged(f"it ends early, at byte {end}")
            for number, entry in enumerate(
                self._table(index), index * per_table
            ):
                if not entry:
                    continue
                needed = self._end(entry, number == last)
                if needed > end:
                    raise qcow2.damaged(f"it ends early, at byte {end}")
                used += self._cluster if needed else 0
        return used

    @functools.cached_property
    def _tables(self) -> "array.array[int]":
        """The first table: its entries name the second-level tables."""
        size = 8 * -(-self._clusters // (self._cluster // 8))
        self._meter.count_read(size)
        end = self._header.l1_offset + size
        data = os.pread(self._fd, size, self._header.l1_offset)
        if len(data) < size:
            raise qcow2.damaged(f"it ends before byte {end}")
        return _numbers(data)

    def _end(self, entry: int, is_last: bool) -> int:
        """Return how many bytes the file must have to hold a cluster."""
        if entry & qcow2.COMPRESSED:
            place, sectors = self._packed(entry)
            return place - place % _SECTOR + sectors * _SECTOR + 1
        place = entry & qcow2.OFFSET
        if entry & qcow2.ZERO or not place:
            return 0
        # The disk's last cluster may be incomplete.
        return place + (1 if is_last else self._cluster)

    def _part(self, cluster: int, within: int, length: int) -> bytes:
        entry = self._entry(cluster)
        if entry & qcow2.COMPRESSED:
            return self._unpacked(entry)[within : within + length]
        place = entry & qcow2.OFFSET
        if entry & qcow2.ZERO or not place:
            return bytes(length)
        return self._pread(place + within, length)

    def _entry(self, cluster: int) -> int:
        if cluster >= self._clusters:
            return 0
        table, number = divmod(cluster, self._cluster // 8)
        return self._table(table)[number]

    def _read_table(self, index: int) -> "array.array[int]":
        place = self._tables[index] & qcow2.OFFSET
        self._meter.count_read(self._cluster)
        return _numbers(
            self._pread(place, self._cluster) if place else bytes(self._cluster)
        )

    def _packed(self, entry: int) -> tuple[int, int]:
        """Return a packed cluster's place, and its sectors after the first."""
        bits = 62 - (self._header.cluster_bits - 8)
        sectors = (entry & (qcow2.COMPRESSED - 1)) >> bits
        return entry & ((1 << bits) - 1), sectors

    def _unpack(self, entry: int) -> bytes:
        place, sectors = self._packed(entry)
        self._meter.count_read(self._cluster)
        size = (sectors + 1) * _SECTOR - place % _SECTOR
        packed = os.pread(self._fd, size, place)
        try:
            data = zlib.decompressobj(-zlib.MAX_WBITS).decompress(
                packed, self._cluster
            )
        except zlib.error as error:
            raise qcow2.damaged(f"byte {place}: {error}") from None
        if len(data) < self._cluster:
            raise qcow2.damaged(f"byte {place}: a cluster is cut short")
        return data

    def _pread(self, place: int, size: int) -> bytes:
        data = os.pread(self._fd, size, place)
        if not data:
            raise qcow2.damaged(f"it ends before byte {place}")
        return data.ljust(size, b"\0")


def _numbers(data: bytes) -> "array.array[int]":
    """Return the numbers of a table."""
    numbers = array.array("Q", data)
    if sys.byteorder == "little":
        numbers.byteswap()
    return numbers
