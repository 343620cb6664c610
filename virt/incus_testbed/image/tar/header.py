# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the plain headers of an archive, which nearly all of its members have.

tarfile takes 30 us for a header, and this takes 5: in an import of a small
Debian system, with 10,000 members, that saves a quarter of a second of 1.2 s.
"""

import re
import tarfile
import zlib

SIZE = tarfile.BLOCKSIZE

_NUMBER = rb"[0-7]{6}[0-7 ]\0"
#: All fields after the name, in POSIX's format or that of GNU tar (POSIX.1,
#: pax, "ustar Interchange Format"), if the name is not continued in the last.
_FIELDS = re.compile(
    rb"(?s)(?P<mode>[0-7]{6}[0-7 ])\0(?:" + _NUMBER + rb"){2}"
    rb"(?P<size>[0-7]{11})[\0 ][0-7]{11}[\0 ]"
    rb"(?P<checksum>[0-7]{6})\0 (?P<type>[0125])(?P<link>.{100})"
    rb"ustar(?:\x0000|  \0).{64}(?:" + _NUMBER + rb"|\0{8}){2}\0{167}"
)
_NAME = slice(0, 100)
_CHECKSUM = slice(148, 156)
_HALF = SIZE // 2


def plain(block: bytes) -> tarfile.TarInfo | None:
    """Return what a header says, if it is a plain one, as tarfile would.

    ``block`` has SIZE bytes.  A plain header is of a file, a link or a folder,
    has nothing that is not in POSIX's first format, and is whole.  None means
    that it may still be a header for tarfile.  ``name``, ``linkname``,
    ``mode``, ``size`` and ``type`` are set.
    """
    found = _FIELDS.fullmatch(block, _NAME.stop)
    if not found or _sum(block) != int(found["checksum"], 8):
        return None
    member = tarfile.TarInfo(_text(block[_NAME]))
    member.mode = int(found["mode"], 8)
    member.size = int(found["size"], 8)
    member.type = found["type"]
    member.linkname = _text(found["link"])
    if member.type == tarfile.DIRTYPE:
        member.name = member.name.rstrip("/")
    if member.size and member.type != tarfile.REGTYPE:
        return None
    return member


def _text(field: bytes) -> str:
    return field.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _sum(block: bytes) -> int:
    """Return the sum of a header's bytes, with spaces for the checksum.

    The low half of Adler-32 is 1 plus the sum of the bytes modulo 65521, which
    256 bytes can't reach.
    """
    return (
        (zlib.adler32(block[:_HALF]) & 0xFFFF)
        + (zlib.adler32(block[_HALF:]) & 0xFFFF)
        - 2
        - sum(block[_CHECKSUM])
        + 8 * ord(" ")
    )
