# SPDX-License-Identifier: GPL-3.0-or-later
"""Limit the size of one copy out of a guest."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from incus_testbed import errors
from incus_testbed.limits import settings

#: Environment variables that change the limits of one copy.
BYTES = "INCUS_TESTBED_COPY_BYTES"
MEMBERS = "INCUS_TESTBED_COPY_MEMBERS"
DEPTH = "INCUS_TESTBED_COPY_DEPTH"

#: Each level keeps one folder open, and a process may have 1024 open files.
_DEEPEST = 500
#: The smallest number of bytes that a file takes on a disk.
_BLOCK = 4096
#: Bytes of a disk that stay free, or a share of the disk if that is less.
_RESERVE, _RESERVE_SHARE = 1 << 30, 0.05
#: Bytes between two looks at how much of the disk is free.
_LOOK = 64 << 20


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of one copy.

    ``size``: bytes; holes and each hard link count in full.  About 20 GiB can
    be copied within autopkgtest's time limit of 300 s.
    ``members``: files, folders and links; the source of Linux has 90,000.
    ``depth``: folders within each other.
    """

    size: int = 20 << 30
    members: int = 1_000_000
    depth: int = 128

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] = os.environ
    ) -> Self:
        """Return the limits that environment variables set, or the defaults.

        :raises errors.Unsupported: a value is not a positive whole number
        """
        return cls(
            size=settings.number(BYTES, cls.size, environment, least=1),
            members=settings.number(MEMBERS, cls.members, environment, least=1),
            depth=min(
                settings.number(DEPTH, cls.depth, environment, least=1),
                _DEEPEST,
            ),
        )


def room(folder: int | str | os.PathLike[str]) -> int:
    """Return how many bytes a copy may put on a folder's disk."""
    disk = os.statvfs(folder)
    total, free = disk.f_blocks * disk.f_frsize, disk.f_bavail * disk.f_frsize
    reserve = min(_RESERVE, int(total * _RESERVE_SHARE))
    return max(free - reserve, 0)


def no_room(needed: int) -> errors.NoSpace:
    """Return the error for a copy that would fill the disk."""
    return errors.NoSpace(
        "The copy out of the testbed would fill the disk",
        details=f"At least {needed} more bytes are needed; some of the disk"
        " always stays free.",
        resolution="Free space there, or copy to another disk.",
    )


def too_large(limit: int) -> errors.LimitReached:
    """Return the error for a copy of more than ``limit`` bytes."""
    return errors.LimitReached(
        f"The copy out of the testbed is larger than {limit} bytes",
        resolution=f"Set {BYTES} to a larger number if it may be.",
    )


class Budget:
    """Count what one copy takes, and enforce its limits."""

    def __init__(self, limits: Limits, folder: int) -> None:
        """Start with nothing taken; ``folder`` is a descriptor on the disk."""
        self.limits = limits
        self._folder = folder
        self._members = 0
        self._size = 0
        #: Bytes that can be taken before the disk is looked at again.
        self._unseen = 0

    def take_member(self, size: int) -> None:
        """Count one member, the block that it takes on the disk, and its bytes.

        :raises errors.LimitReached: there are too many
        :raises errors.NoSpace: the disk has no room for it
        """
        self._members += 1
        if self._members > self.limits.members:
            raise errors.LimitReached(
                "The copy out of the testbed has more than"
                f" {self.limits.members} files",
                resolution=f"Set {MEMBERS} to a larger number if it may.",
            )
        self.take(_BLOCK + size)

    def take(self, size: int) -> None:
        """Count bytes before they are written.

        :raises errors.LimitReached: there are too many
        :raises errors.NoSpace: the disk has no room for them
        """
        self._size += size
        if self._size > self.limits.size:
            raise too_large(self.limits.size)
        self._unseen -= size
        if self._unseen < 0:
            free = room(self._folder)
            if size > free:
                raise no_room(size)
            self._unseen = min(free - size, _LOOK)
