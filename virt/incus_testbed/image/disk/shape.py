# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a file is a disk image, and how it is wrapped."""

import io
import tarfile
from typing import Literal

from incus_testbed.image import signature
from incus_testbed.image.archive import NONSENSE
from incus_testbed.image.disk import qcow2

#: ``packed`` is an archive that begins with a disk image, of any kind.
Shape = Literal["raw", "qcow2", "packed"]

#: How much of a file is looked at: a sparse member begins with a list of what
#: it holds, which is of hundreds of KiB where the disk was long in use.
LENGTH = 4 << 20


def shape(head: bytes) -> Shape | None:
    """Return what a file is that begins so; None for what is no disk.

    ``head`` is LENGTH bytes, or the whole file.
    """
    if head[:1] != b"\0" and signature.is_tar(head):
        return "packed" if _begins_with_disk(head) else None
    if head.startswith(qcow2.MAGIC):
        return "qcow2"
    return "raw" if signature.is_disk(head) else None


def _begins_with_disk(head: bytes) -> bool:
    try:
        with tarfile.TarFile(fileobj=io.BytesIO(head)) as tar:
            member = tar.next()
    except NONSENSE:
        return False
    if not member or not member.isreg():
        return False
    sparse = getattr(member, "sparse", None) or [(0, member.size)]
    content = bytearray(signature.LENGTH)
    place = member.offset_data
    for offset, size in sparse:
        if offset >= len(content):
            break
        end = min(offset + size, len(content))
        content[offset:end] = head[place : place + end - offset]
        place += size
    return signature.is_disk(bytes(content[: member.size]))
