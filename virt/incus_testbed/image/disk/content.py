# SPDX-License-Identifier: GPL-3.0-or-later
"""Recognise what a partition holds, by the marks at its beginning.

The marks, and where they are, are those by which libblkid knows them.
"""

from incus_testbed import errors
from incus_testbed.image.disk.partitions import Partition, Read

_SECTOR = 512
#: Names of file systems, and the place and text of their marks.
_FILE_SYSTEMS = {
    "btrfs": (0x10040, b"_BHRfS_M"),
    "erofs": (0x400, b"\xe2\xe1\xf5\xe0"),
    "f2fs": (0x400, b"\x10\x20\xf5\xf2"),
    "squashfs": (0, b"hsqs"),
    "xfs": (0, b"XFSB"),
}
#: The same of what has file systems inside.
_LUKS = (0, b"LUKS\xba\xbe")
_RAIDS = [(place, b"\xfc\x4e\x2b\xa9") for place in (0, 0x1000)]
#: LVM has its label in one of the first four sectors.
_LVMS = [(sector * _SECTOR + 24, b"LVM2 001") for sector in range(4)]


def file_system(read: Read, partition: Partition) -> str:
    """Return the name of a partition's file system, or "" if it is unknown.

    Those of ext4's family, which are read here, are not among them.

    :raises errors.BadImage: it holds something that has file systems inside
    """

    def has(place: int, mark: bytes) -> bool:
        return (
            place + len(mark) <= partition.size
            and read(partition.start + place, len(mark)) == mark
        )

    if any(has(*mark) for mark in _LVMS):
        raise _closed("inside LVM")
    if has(*_LUKS):
        raise _closed("encrypted (LUKS)")
    if any(has(*mark) for mark in _RAIDS):
        raise _closed("inside a RAID")
    names = (name for name, mark in _FILE_SYSTEMS.items() if has(*mark))
    return next(names, "")


def _closed(where: str) -> errors.BadImage:
    return errors.BadImage(
        f"The disk's root file system is {where}",
        details="So it can't be seen whether the system would start Incus'"
        " agent and set up its network.",
        resolution="Make the image with an ext4 root file system directly in a"
        " partition. 'incus-testbed build SUITE --vm' makes such a disk.",
    )
