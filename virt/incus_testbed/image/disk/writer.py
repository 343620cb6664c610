# SPDX-License-Identifier: GPL-3.0-or-later
"""Write a disk into a qcow2 file, from front to back in one pass.

qemu-img reads no pipe: it would need a raw copy of a stream first, which takes
as much room again, and the time to read it.
"""

import array
import sys
from collections.abc import Iterable
from typing import IO

from incus_testbed.image.disk import qcow2
from incus_testbed.image.disk.qcow2 import Header

_BITS = 16
CLUSTER = 1 << _BITS
_PER_TABLE = CLUSTER // 8
_PER_REFCOUNT_BLOCK = CLUSTER // 2
_SECTOR = 512

_NOTHING = bytes(CLUSTER)

#: Bytes that are handled at once.
_STRETCH = 16 * CLUSTER


class Writer:
    """A qcow2 image that grows; clusters of zeros take no room.

    First call ``write`` and ``skip_to``, then ``finish``.  Memory holds one
    table at a time; a table takes 64 KiB and describes 512 MiB of the disk.
    """

    def __init__(self, file: IO[bytes]) -> None:
        """Write to an empty file."""
        self._file = file
        self._file.seek(CLUSTER)  # the header comes last
        self._used = 1
        self._pending = bytearray()
        self._cluster = 0  # number of the cluster at which pending begins
        self._l1: list[int] = []
        self._l2: dict[int, int] = {}

    def write(self, data: bytes) -> None:
        """Add the next bytes of the disk."""
        self._pending += data
        whole = len(self._pending) // CLUSTER * CLUSTER
        if whole >= _STRETCH:
            self._flush(whole)

    def skip_to(self, position: int) -> None:
        """Add zeros up to a position, which is not before the current end.

        :raises errors.BadImage: the disk would be too large
        """
        size = position - self._cluster * CLUSTER - len(self._pending)
        filling = min(size, -len(self._pending) % CLUSTER)
        self._pending += bytes(filling)
        size -= filling
        if size >= CLUSTER:
            self._flush(len(self._pending))
            self._advance(size // CLUSTER)
        self._pending += bytes(size % CLUSTER)

    def finish(self) -> Header:
        """Complete the file; return its header."""
        size = self._cluster * CLUSTER + len(self._pending)
        size += -size % _SECTOR
        self._pending += bytes(-len(self._pending) % CLUSTER)
        self._flush(len(self._pending))
        if self._cluster % _PER_TABLE:
            self._close_table()
        header = self._finish_tables(size)
        self._file.flush()
        return header

    def _flush(self, size: int) -> None:
        """Write whole clusters out, table by table."""
        while size:
            room = (_PER_TABLE - self._cluster % _PER_TABLE) * CLUSTER
            stretch = bytes(self._pending[: min(size, room)])
            del self._pending[: len(stretch)]
            size -= len(stretch)
            self._put(stretch)

    def _put(self, stretch: bytes) -> None:
        """Write clusters of one table; adjacent ones with one write."""
        begin = 0
        first = self._cluster % _PER_TABLE
        for place in range(0, len(stretch), CLUSTER):
            if stretch.startswith(_NOTHING, place):
                if begin < place:
                    self._file.write(stretch[begin:place])
                begin = place + CLUSTER
            else:
                self._l2[first + place // CLUSTER] = self._take()
        self._file.write(stretch[begin:])
        self._advance(len(stretch) // CLUSTER)

    def _advance(self, clusters: int) -> None:
        """Move on by some clusters; close each table that is complete."""
        qcow2.check_size((self._cluster + clusters) * CLUSTER)
        while clusters:
            step = min(clusters, _PER_TABLE - self._cluster % _PER_TABLE)
            self._cluster += step
            clusters -= step
            if self._cluster % _PER_TABLE == 0:
                self._close_table()

    def _close_table(self) -> None:
        if not self._l2:
            self._l1.append(0)
            return
        table = (self._l2.get(index, 0) for index in range(_PER_TABLE))
        self._l1.append(self._take())
        self._file.write(_packed(table))
        self._l2.clear()

    def _take(self) -> int:
        """Return an entry for the next cluster of the file."""
        self._used += 1
        return (self._used - 1) * CLUSTER | qcow2.COPIED

    def _finish_tables(self, size: int) -> Header:
        """Write the first table, the reference counts, and the header."""
        header = Header(
            size=size,
            cluster_bits=_BITS,
            l1_offset=self._used * CLUSTER,
            l1_entries=len(self._l1),
        )
        l1 = _packed(self._l1)
        self._file.write(l1.ljust(-(-len(l1) // CLUSTER) * CLUSTER, b"\0"))
        self._used += -(-len(l1) // CLUSTER)
        place, clusters = self._finish_refcounts()
        self._file.seek(0)
        self._file.write(
            header.pack(
                refcounts_offset=place, refcounts_clusters=clusters
            ).ljust(CLUSTER, b"\0")
        )
        return header

    def _finish_refcounts(self) -> tuple[int, int]:
        """Write a reference count of 1 for each cluster, also for the new ones.

        Returns the place of the table of counts, and its size in clusters.
        """
        blocks = tables = 0
        while True:
            total = self._used + tables + blocks
            needed = -(-total // _PER_REFCOUNT_BLOCK)
            if blocks == needed and tables == -(-blocks // _PER_TABLE):
                break
            blocks, tables = needed, -(-needed // _PER_TABLE)
        place = self._used * CLUSTER
        first = self._used + tables
        table = _packed(n * CLUSTER for n in range(first, total))
        self._file.write(table.ljust(tables * CLUSTER, b"\0"))
        for block in range(blocks):
            counted = min(
                _PER_REFCOUNT_BLOCK, total - block * _PER_REFCOUNT_BLOCK
            )
            self._file.write((b"\0\1" * counted).ljust(CLUSTER, b"\0"))
        return place, tables


def _packed(numbers: Iterable[int]) -> bytes:
    """Return numbers as qcow2 stores them: 8 bytes each, big-endian."""
    packed = array.array("Q", numbers)
    if sys.byteorder == "little":
        packed.byteswap()
    return packed.tobytes()
