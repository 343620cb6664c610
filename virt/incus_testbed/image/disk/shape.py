# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a file is a disk image, and how it is wrapped."""

import io
import tarfile
from typing import Literal

from incus_testbed.image import archive, signature
from incus_testbed.image.archive import NONSENSE
from incus_testbed.image.budget import Budget
from incus_testbed.image.disk import qcow2

#: ``packed`` is an archive that begins with a disk image, of any kind.
Shape = Literal["raw", "qcow2", "packed"]


def length(budget: Budget) -> int:
    """Return how much of a file has to be seen: a member's longest headers.

    A sparse member begins with a list of what it holds, which is of hundreds
    of KiB where the disk was long in use.
    """
    return budget.header_bytes + signature.LENGTH


def shape(head: bytes) -> Shape | None:
    """Return what a file is that begins so; None for what is no disk.

    ``head`` is of the length above, or the whole file.
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
        if not member or not member.isreg():
            return False
        content = bytearray(signature.LENGTH)
        for offset, size, place in archive.parts(member):
            if offset >= len(content):
                break
            end = min(offset + size, len(content))
            content[offset:end] = head[place : place + end - offset]
    except NONSENSE:
        return False
    return signature.is_disk(bytes(content[: member.size]))
