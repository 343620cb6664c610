# SPDX-License-Identifier: GPL-3.0-or-later
"""qcow2, QEMU's disk image format (QEMU's docs/interop/qcow2.txt)."""

import struct
from dataclasses import dataclass

from incus_testbed import errors

MAGIC = b"QFI\xfb"

#: Bits of L1 and L2 entries: the offset, and what else is looked at.
OFFSET = 0x00FF_FFFF_FFFF_FE00
COPIED = 1 << 63
COMPRESSED = 1 << 62
ZERO = 1

#: Of the header: magic to snapshots, and what version 3 has beyond.
_OLD = struct.Struct(">4sIQIIQIIQQIIQ")
_NEW = struct.Struct(">QQQII")
#: How much of a file holds all that is looked at.
HEADER = _OLD.size + _NEW.size + 1

_CORRUPT = 1 << 1
_EXTERNAL = 1 << 2
#: Incompatible features that qemu-img can take out: an unfinished write,
#: compression other than zlib's, clusters in parts.
_REMOVABLE = 1 << 0 | 1 << 3 | 1 << 4

#: A larger disk is taken for a lie, and so is a longer table, as QEMU does.
LARGEST = 1 << 46
_MOST_ENTRIES = 1 << 22

_LEAST_CLUSTER, _LARGEST_CLUSTER = 9, 21
_VERSION = 3


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a reader has to know; offsets and sizes in bytes.

    ``size`` is that of the disk.  ``plain``: it has none of the features that
    only QEMU reads.
    """

    size: int
    cluster_bits: int
    l1_offset: int
    l1_entries: int
    plain: bool = True


def header(head: bytes) -> Header:
    """Read the first bytes of a file, HEADER of them at least.

    :raises errors.BadImage: it is damaged, or not whole without another file
        or a key
    """
    if len(head) < HEADER or not head.startswith(MAGIC):
        raise damaged("its header is cut short")
    (
        _,
        version,
        backing,
        _,
        cluster_bits,
        size,
        encryption,
        l1_entries,
        l1_offset,
        *_,
    ) = _OLD.unpack_from(head)
    features = (
        _NEW.unpack_from(head, _OLD.size)[0] if version >= _VERSION else 0
    )
    _check_version(version, features)
    if backing:
        raise _refused("has a backing file, without which it is not whole")
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


def new_header(
    *,
    size: int,
    cluster_bits: int,
    l1_offset: int,
    l1_entries: int,
    refcounts_offset: int,
    refcounts_clusters: int,
) -> bytes:
    """Return the header of a version 3 image with no features."""
    old = _OLD.pack(
        *(MAGIC, _VERSION, 0, 0, cluster_bits, size, 0),
        *(l1_entries, l1_offset, refcounts_offset, refcounts_clusters, 0, 0),
    )
    refcount_order = 4
    return old + _NEW.pack(0, 0, 0, refcount_order, _OLD.size + _NEW.size)


def check_size(size: int) -> None:
    """Refuse a disk larger than any.

    :raises errors.BadImage: it is
    """
    if size > LARGEST:
        raise errors.BadImage(f"The disk is larger than {LARGEST >> 40} TiB")


def damaged(details: str) -> errors.BadImage:
    """Return the error for an image that is not what it should be."""
    return errors.BadImage(
        "The qcow2 image is damaged",
        details=f"{details[:1].upper()}{details[1:]}.",
        resolution="Make or fetch the file anew.",
    )


def _check_version(version: int, features: int) -> None:
    known = _CORRUPT | _EXTERNAL | _REMOVABLE
    if version not in {2, _VERSION} or features & ~known:
        raise errors.BadImage(
            "The qcow2 image is of a kind that is not known here",
            details=f"Version {version}, incompatible features {features:#x}.",
            resolution="Rewrite it: qemu-img convert -O qcow2 FILE NEW",
        )


def _refused(problem: str) -> errors.BadImage:
    return errors.BadImage(
        f"The qcow2 image {problem}",
        resolution="Make it whole: qemu-img convert -O qcow2 FILE NEW",
    )
