# SPDX-License-Identifier: GPL-3.0-or-later
"""Recognise a disk image of any shape by its first bytes."""

from typing import Literal

from incus_testbed.image.disk import packed, qcow2
from incus_testbed.image.stream import magic
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
        return "packed" if packed.begins_with_disk(head) else None
    if head.startswith(qcow2.MAGIC):
        return "qcow2"
    return "raw" if magic.is_disk(head) else None
