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

    First call ``write`` and ``skip_to``, then ``finish``.  Memory holds the
    tables, which take 8 MiB for a disk of 64 GiB.
    """

    def __init__(self, file: IO[bytes]) -> None:
        """Write to an empty file."""
        self._file = file
        self._file.seek(CLUSTER)  # the header comes last
        self._used = 1
        self._pending = bytearray()
        self._entries = array.array("Q")  # one for each cluster of the disk

    def write(self, data: bytes) -> None:
        """Add the next bytes of the disk.

        :raises errors.BadImage: the disk is too large
        """
        self._pending += data
        whole = len(self._pending) // CLUSTER * CLUSTER
        if whole >= _STRETCH:
            self._flush(whole)

    def skip_to(self, position: int) -> None:
        """Add zeros up to a position, which is not before the current end.

        :raises errors.BadImage: the disk would be too large
        """
        size = position - len(self._entries) * CLUSTER - len(self._pending)
        filling = min(size, -len(self._pending) % CLUSTER)
        self._pending += bytes(filling)
        size -= filling
        if size >= CLUSTER:
            self._flush(len(self._pending))
            qcow2.check_size(position)
            self._entries.frombytes(bytes(size // CLUSTER * 8))
        self._pending += bytes(size % CLUSTER)

    def finish(self) -> Header:
        """Complete the file with its tables; return its header."""
        size = len(self._entries) * CLUSTER + len(self._pending)
        size += -size % _SECTOR
        self._pending += bytes(-len(self._pending) % CLUSTER)
        self._flush(len(self._pending))
        l1 = []
        for start in range(0, len(self._entries), _PER_TABLE):
            table = self._entries[start : start + _PER_TABLE]
            l1.append(self._take() if any(table) else 0)
            if l1[-1]:
                self._file.write(_packed(table).ljust(CLUSTER, b"\0"))
        header = Header(
            size=size,
            cluster_bits=_BITS,
            l1_offset=self._used * CLUSTER,
            l1_entries=len(l1),
        )
        clusters = -(-len(l1) * 8 // CLUSTER)
        self._file.write(_packed(l1).ljust(clusters * CLUSTER, b"\0"))
        self._used += clusters
        place, clusters = self._finish_refcounts()
        self._file.seek(0)
        packed = header.pack(
            refcounts_offset=place, refcounts_clusters=clusters
        )
        self._file.write(packed.ljust(CLUSTER, b"\0"))
        self._file.flush()
        return header

    def _flush(self, size: int) -> None:
        """Write whole clusters out; adjacent ones with one write."""
        stretch = bytes(self._pending[:size])
        del self._pending[:size]
        begin = 0
        for place in range(0, size, CLUSTER):
            if stretch.startswith(_NOTHING, place):
                self._file.write(stretch[begin:place])
                begin = place + CLUSTER
                self._entries.append(0)
            else:
                self._entries.append(self._take())
        self._file.write(stretch[begin:])
        qcow2.check_size(len(self._entries) * CLUSTER)

    def _take(self) -> int:
        """Return an entry for the next cluster of the file."""
        self._used += 1
        return (self._used - 1) * CLUSTER | qcow2.COPIED

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
