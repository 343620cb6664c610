# SPDX-License-Identifier: GPL-3.0-or-later
"""Reads a disk, at any place, from a qcow2 file."""

import array
import functools
import os
import sys
import zlib
from collections.abc import Iterator
from typing import IO

from incus_testbed.image.disk import qcow2
from incus_testbed.image.disk.qcow2 import Header

#: Tables and unpacked clusters that are kept, a cluster's size each.
_KEPT = 32

_SECTOR = 512


class Reader:
    """The disk in a qcow2 image that is plain.

    Memory is bounded: by a few dozen clusters, and by what is asked for.
    """

    def __init__(self, file: IO[bytes], header: Header) -> None:
        """Read from a file that the operating system knows."""
        self._fd = file.fileno()
        self._header = header
        self._cluster = 1 << header.cluster_bits
        self._clusters = -(-header.size // self._cluster)
        self.size = header.size
        # of this object's own, or they would outlive it
        self._table = functools.lru_cache(_KEPT)(self._read_table)
        self._unpacked = functools.lru_cache(_KEPT)(self._unpack)

    def read(self, offset: int, size: int) -> bytes:
        """Return size bytes, zeros beyond the end.

        :raises errors.BadImage: the image is damaged there
        """
        return b"".join(self._parts(offset, size))

    def check(self) -> None:
        """Look whether what the tables tell of is in the file.

        :raises errors.BadImage: it is cut short, or damaged
        """
        end = os.fstat(self._fd).st_size
        per_table = self._cluster // 8
        last = self._clusters - 1
        for index in range(-(-self._clusters // per_table)):
            place = self._table_place(index)
            if not place:
                continue
            if place >= end:
                raise qcow2.damaged(f"it ends early, at byte {end}")
            table = array.array("Q", self._table(index))
            if sys.byteorder == "little":
                table.byteswap()
            for number, entry in enumerate(table, index * per_table):
                if entry and self._end(entry, number == last) > end:
                    raise qcow2.damaged(f"it ends early, at byte {end}")

    def _end(self, entry: int, is_last: bool) -> int:
        """Return what position has to be in the file for a cluster."""
        if entry & qcow2.COMPRESSED:
            place, sectors = self._packed(entry)
            return place - place % _SECTOR + sectors * _SECTOR + 1
        place = entry & qcow2.OFFSET
        if entry & qcow2.ZERO or not place:
            return 0
        # The end of the disk need not fill its cluster.
        return place + (1 if is_last else self._cluster)

    def _parts(self, offset: int, size: int) -> Iterator[bytes]:
        while size > 0:
            within = offset % self._cluster
            length = min(size, self._cluster - within)
            yield self._part(offset // self._cluster, within, length)
            offset += length
            size -= length

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
        per_table = self._cluster // 8
        table = self._table(cluster // per_table)
        start = cluster % per_table * 8
        return int.from_bytes(table[start : start + 8], "big")

    def _table_place(self, index: int) -> int:
        entry = self._pread(self._header.l1_offset + 8 * index, 8)
        return int.from_bytes(entry, "big") & qcow2.OFFSET

    def _read_table(self, index: int) -> bytes:
        place = self._table_place(index)
        return (
            self._pread(place, self._cluster) if place else bytes(self._cluster)
        )

    def _packed(self, entry: int) -> tuple[int, int]:
        """Return where a packed cluster is, and in how many more sectors."""
        bits = 62 - (self._header.cluster_bits - 8)
        sectors = (entry & (qcow2.COMPRESSED - 1)) >> bits
        return entry & ((1 << bits) - 1), sectors

    def _unpack(self, entry: int) -> bytes:
        place, sectors = self._packed(entry)
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
