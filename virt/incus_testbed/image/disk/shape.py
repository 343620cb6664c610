# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell whether a file is a disk image, and how it is wrapped."""

import io
import tarfile
from typing import Literal

from incus_testbed.image.disk import qcow2
from incus_testbed.image.stream import magic
from incus_testbed.image.tar import archive
from incus_testbed.image.tar.archive import NONSENSE
from incus_testbed.limits.budget import Budget

#: ``packed`` is an archive whose first file is a disk image of any kind.
Shape = Literal["raw", "qcow2", "packed"]


def length(budget: Budget) -> int:
    """Return how many first bytes of a file ``shape`` needs.

    They must hold a member's longest headers.  A sparse member begins with a
    list of its parts, which takes hundreds of KiB for a disk that was in use
    for long.
    """
    return budget.header_bytes + magic.LENGTH


def shape(head: bytes) -> Shape | None:
    """Return the shape of a file that begins with ``head``.

    Returns None if the file is not a disk.  ``head`` has the length above, or
    is the whole file.
    """
    if head[:1] != b"\0" and magic.is_tar(head):
        return "packed" if _begins_with_disk(head) else None
    if head.startswith(qcow2.MAGIC):
        return "qcow2"
    return "raw" if magic.is_disk(head) else None


def _begins_with_disk(head: bytes) -> bool:
    try:
        with tarfile.TarFile(fileobj=io.BytesIO(head)) as tar:
            member = tar.next()
        if not member or not member.isreg():
            return False
        content = bytearray(magic.LENGTH)
        for offset, size, place in archive.parts(member):
            if offset >= len(content):
                break
            end = min(offset + size, len(content))
            content[offset:end] = head[place : place + end - offset]
    except NONSENSE:
        return False
    return magic.is_disk(bytes(content[: member.size]))
