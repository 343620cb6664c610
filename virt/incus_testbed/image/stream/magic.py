# SPDX-License-Identifier: GPL-3.0-or-later
"""Recognise the type of a file by its first bytes."""

import tarfile

from incus_testbed import errors

#: Number of first bytes that are examined.
LENGTH = 8192

_DISKS = (
    (0, b"QFI\xfb", "a qcow2 disk image"),
    (512, b"EFI PART", "a disk image with a GPT partition table"),
    (4096, b"EFI PART", "a disk image with a GPT partition table"),
    (510, b"\x55\xaa", "a disk image with an MBR"),
    (1080, b"\x53\xef", "an ext2, ext3 or ext4 file system"),
)
_OTHER_DISKS = (
    (0, b"KDMV", "a VMDK disk image"),
    (0, b"conectix", "a VHD disk image"),
    (0, b"vhdxfile", "a VHDX disk image"),
)
#: As the images of images.linuxcontainers.org have it.
_SQUASHFS = b"hsqs"
_OTHERS = (
    (0, b"PK\x03\x04", "a zip archive"),
    (0, b"!<arch>\n", "an ar archive, such as a .deb"),
    (0, b"070701", "a cpio archive"),
    (0, b"070707", "a cpio archive"),
    (0, b"\xed\xab\xee\xdb", "an RPM package"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (0, b"LZIP", "lzip-compressed"),
    (0, b"\x04\x22\x4d\x18", "lz4-compressed"),
    (0, b"\x5d\x00\x00", "lzma-compressed"),
    (0, b"\x1f\x9d", "compressed with compress"),
    (0, b"\x1f\x8b", "compressed twice"),
    (0, b"BZh", "compressed twice"),
    (0, b"\xfd7zXZ\0", "compressed twice"),
    (0, b"\x28\xb5\x2f\xfd", "compressed twice"),
    (0, b"-----BEGIN PGP", "an OpenPGP message"),
    (0, b"<!DOCTYPE", "a web page"),
    (0, b"<html", "a web page"),
)


def is_tar(head: bytes) -> bool:
    """Return whether a file begins with a tar header or an end marker."""
    try:
        tarfile.TarInfo.frombuf(
            head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape"
        )
    except tarfile.EOFHeaderError:  # type: ignore[attr-defined]
        return True
    except (tarfile.TarError, ValueError):
        return False
    return True


def not_a_tarball(head: bytes) -> errors.BadImage:
    """Return the error for a file that begins with head, saying what it is."""
    if not head:
        return errors.BadImage(
            "The file is empty",
            resolution="Download the file again, or build it again.",
        )
    if head.startswith(_SQUASHFS):
        return errors.BadImage(
            "The file is a squashfs file system",
            resolution="Make a tarball of it, by the package squashfs-tools-ng:"
            " sqfs2tar FILE | incus-testbed import - --alias NAME",
        )
    if disk := _named(head, _OTHER_DISKS):
        return unusable_disk(f"It seems to be {disk}.")
    seems = _named(head, _OTHERS)
    return errors.BadImage(
        "The file is not an archive that tar can read",
        details=f"It seems to be {seems}." if seems else "",
        resolution="Use a tarball or a disk image: plain, or packed with "
        "gzip, bzip2, xz or zstd.",
    )


def is_disk(head: bytes) -> bool:
    """Return whether a file begins like a raw disk or a qcow2 image."""
    return bool(_named(head, _DISKS))


def unusable_disk(details: str) -> errors.BadImage:
    """Return the error for a disk image that nothing here can read."""
    return errors.BadImage(
        "The file is a disk image of a kind that can't be used",
        details=details,
        resolution="Use a raw disk or a qcow2 image alone, packed or not:"
        " qemu-img convert -O qcow2 FILE NEW makes one.",
    )


def _named(head: bytes, table: tuple[tuple[int, bytes, str], ...]) -> str:
    for offset, magic, name in table:
        if head.startswith(magic, offset):
            return name
    return ""
