# SPDX-License-Identifier: GPL-3.0-or-later
"""Where the instances of the images that are imported will be."""

import contextlib
import re
from collections.abc import Mapping

from incus_testbed import errors
from incus_testbed.client import Incus
from incus_testbed.image import profiles
from incus_testbed.image.fits import Place

_UNITS: dict[str, int] = {
    "": 1,
    "B": 1,
    **{f"{prefix}B": 1000**n for n, prefix in enumerate("kMGTPE", 1)},
    **{f"{prefix}iB": 1024**n for n, prefix in enumerate("KMGTPE", 1)},
}


def place(incus: Incus, usual: str) -> Place:
    """Return where the instances of the images that are imported will be.

    ``usual`` is the profile that they get, virtual machines beside another.
    What a profile that isn't there, or has no root device, says is left to the
    launch.
    """
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
