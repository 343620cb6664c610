# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether an image fits where the instances made of it will be."""

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass

from incus_testbed import errors
from incus_testbed.client import Incus
from incus_testbed.image import profiles

#: Of a pool, what one system may take.
_SHARE = 2

_UNITS: dict[str, int] = {
    "": 1,
    "B": 1,
    **{f"{prefix}B": 1000**n for n, prefix in enumerate("kMGTPE", 1)},
    **{f"{prefix}iB": 1024**n for n, prefix in enumerate("KMGTPE", 1)},
}


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where instances will be; sizes in bytes, None where not known."""

    pool: str = ""
    pool_size: int | None = None
    device_size: int | None = None
    #: What is told of a disk that is larger than its pool, or its device.
    enlarge_pool: str = ""
    enlarge_device: str = ""
    profile: str = ""

    def check_disk(self, size: int) -> None:
        """Refuse a disk that the profiles' root device has no place for.

        :raises errors.BadImage: with both sizes
        """
        if self.pool_size is not None and size > self.pool_size:
            raise errors.BadImage(
                f"The disk is too large for the storage pool {self.pool}",
                details=f"It has {_gib(size)} or more, and the pool"
                f" {_gib(self.pool_size)}.",
                resolution=self.enlarge_pool,
            )
        if self.device_size is not None and size > self.device_size:
            raise errors.BadImage(
                f"The disk is larger than the profile {self.profile} allows",
                details=f"It has {_gib(size)} or more, and the root device"
                f" {_gib(self.device_size)}.",
                resolution=f"{self.enlarge_device} size={size}",
            )

    def check_tree(self, size: int) -> None:
        """Refuse a system's files that would take more than half the pool.

        There is the image, and what an instance made of it adds.

        :raises errors.BadImage: with both sizes
        """
        if self.pool_size is not None and size > self.pool_size // _SHARE:
            raise errors.BadImage(
                "The system is too large for half of the storage pool"
                f" {self.pool}",
                details=f"It has {_gib(size)} or more, and the pool"
                f" {_gib(self.pool_size)}.",
                resolution=self.enlarge_pool,
            )


def place(incus: Incus) -> Place:
    """Return where the instances of the images that are imported will be.

    What a profile that isn't there, or has no root device, says is left to the
    launch.
    """
    usual = profiles.chosen(incus)
    # The last one that has a root device wins.
    for name in (profiles.for_machines(usual), usual):
        with contextlib.suppress(errors.NotFound):
            devices = incus.profile(name)["devices"]
            for device in profiles.root_disks(devices):
                return _of_device(incus, name, device, devices[device])
    return Place()


def _of_device(
    incus: Incus, profile: str, device: str, settings: Mapping[str, str]
) -> Place:
    pool = settings["pool"]
    return Place(
        pool=pool,
        pool_size=_total(incus, pool),
        device_size=parse(settings.get("size", "")),
        enlarge_pool="Enlarge the pool: incus storage set"
        f" {incus.target(pool)} size=...",
        enlarge_device="Allow more: incus profile device set"
        f" {incus.target(profile)} {device}",
        profile=profile,
    )


def _total(incus: Incus, pool: str) -> int | None:
    try:
        space = incus.pool_space(pool)
    except errors.CommandFailed:  # a cluster: each member has its own
        return None
    return space and space[0]


def parse(text: str) -> int | None:
    """Return a size as Incus writes it, in bytes; None for anything else."""
    found = re.fullmatch(r"(\d+)\s*([a-zA-Z]*)", text)
    if not found or found[2] not in _UNITS:
        return None
    return int(found[1]) * _UNITS[found[2]]


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.1f} GiB"
