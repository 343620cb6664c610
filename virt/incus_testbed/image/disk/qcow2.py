# SPDX-License-Identifier: GPL-3.0-or-later
"""Read and make headers of qcow2 images (QEMU's docs/interop/qcow2.txt)."""

import struct
from dataclasses import dataclass

from incus_testbed import errors

MAGIC = b"QFI\xfb"

#: Bits of L1 and L2 entries: the offset, and the flags that are used here.
OFFSET = 0x00FF_FFFF_FFFF_FE00
COPIED = 1 << 63
COMPRESSED = 1 << 62
ZERO = 1

#: The header: the fields from magic to snapshots, and those of version 3.
_OLD = struct.Struct(">4sIQIIQIIQQIIQ")
_NEW = struct.Struct(">QQQII")
#: Bytes at the beginning of a file that ``header`` needs.
HEADER = _OLD.size + _NEW.size + 1

_CORRUPT = 1 << 1
_EXTERNAL = 1 << 2
#: Incompatible features that qemu-img can take out: an unfinished write,
#: compression other than zlib's, clusters in parts.
_REMOVABLE = 1 << 0 | 1 << 3 | 1 << 4

#: Larger disks and longer tables are refused, as QEMU does.
LARGEST = 1 << 46
_MOST_ENTRIES = 1 << 22

_LEAST_CLUSTER, _LARGEST_CLUSTER = 9, 21
_VERSION = 3


@dataclass(frozen=True, kw_only=True)
class Header:
    """The fields that a reader needs; offsets and sizes are in bytes.

    ``size`` is that of the disk.  ``plain``: the image uses no feature that
    only QEMU can read.
    """

    size: int
    cluster_bits: int
    l1_offset: int
    l1_entries: int
    plain: bool = True

    def pack(self, *, refcounts_offset: int, refcounts_clusters: int) -> bytes:
        """Return the header of a version 3 image with no features."""
        old = _OLD.pack(
            *(MAGIC, _VERSION, 0, 0, self.cluster_bits, self.size, 0),
            *(self.l1_entries, self.l1_offset),
            *(refcounts_offset, refcounts_clusters, 0, 0),
        )
        refcount_order = 4
        return old + _NEW.pack(0, 0, 0, refcount_order, _OLD.size + _NEW.size)


def header(head: bytes) -> Header:
    """Read the header from the first bytes of a file, at least HEADER of them.

    :raises errors.BadImage: it is damaged, or the image needs another file or
        a key
    """
    if len(head) < HEADER or not head.startswith(MAGIC):
        raise damaged("its header is cut short")
    _, version, backing, _, *fields = _OLD.unpack_from(head)
    cluster_bits, size, encryption, l1_entries, l1_offset, *_ = fields
    features = (
        _NEW.unpack_from(head, _OLD.size)[0] if version >= _VERSION else 0
    )
    known = _CORRUPT | _EXTERNAL | _REMOVABLE
    if version not in {2, _VERSION} or features & ~known:
        raise errors.BadImage(
            "The qcow2 image is of an unknown kind",
            details=f"Version {version}, incompatible features {features:#x}.",
            resolution="Rewrite it: qemu-img convert -O qcow2 FILE NEW",
        )
    if backing:
        raise _refused("has a backing file, and is incomplete without it")
    if features & _EXTERNAL:
        raise _refused("keeps its data in another file")
    if encryption:
        raise _refused("is encrypted")
    if features & _CORRUPT:
        raise damaged("it is marked as corrupt")
    if not _LEAST_CLUSTER <= cluster_bits <= _LARGEST_CLUSTER:
        raise damaged("its clusters' size makes no sense")
    covered = l1_entries << (2 * cluster_bits - 3)
    if (
        covered < size
        or l1_entries > _MOST_ENTRIES
        or l1_offset & ~OFFSET
        or l1_offset % (1 << cluster_bits)
    ):
        raise damaged("its table makes no sense")
    check_size(size)
    return Header(
        size=size,
        cluster_bits=cluster_bits,
        l1_offset=l1_offset,
        l1_entries=l1_entries,
        plain=not features,
    )


def check_size(size: int) -> None:
    """Refuse a disk that is larger than LARGEST.

    :raises errors.BadImage: it is larger
    """
    if size > LARGEST:
        raise errors.BadImage(f"The disk is larger than {LARGEST >> 40} TiB")


def damaged(details: str) -> errors.BadImage:
    """Return the error for a damaged image."""
    return errors.BadImage(
        "The qcow2 image is damaged",
        details=f"{details[:1].upper()}{details[1:]}.",
        resolution="Download the file again, or build it again.",
    )


def _refused(problem: str) -> errors.BadImage:
    return errors.BadImage(
        f"The qcow2 image {problem}",
        resolution="Make a complete image: qemu-img convert -O qcow2 FILE NEW",
    )
