# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the storage pool and root device of an imported image's instances."""

import contextlib
import re
from collections.abc import Mapping

from incus_testbed import errors
from incus_testbed.image import profiles
from incus_testbed.image.fits import Place
from incus_testbed.incus.client import Incus

_UNITS: dict[str, int] = {
    "": 1,
    "B": 1,
    **{f"{prefix}B": 1000**n for n, prefix in enumerate("kMGTPE", 1)},
    **{f"{prefix}iB": 1024**n for n, prefix in enumerate("KMGTPE", 1)},
}


def place(incus: Incus, usual: str) -> Place:
    """Return the storage of an imported image's instances.

    ``usual`` is the profile that they get; virtual machines get another one
    too.  A missing profile or root device is not an error here: the launch
    reports it.
    """
    # Of a virtual machine's profiles, the last one with a root device counts.
    for name in (profiles.for_vms(usual), usual):
        with contextlib.suppress(errors.NotFound):
            devices = incus.profile(name)["devices"]
            for device in profiles.root_disks(devices):
                return _of_device(incus, name, device, devices[device])
    return Place()


def _of_device(
    incus: Incus, profile: str, device: str, settings: Mapping[str, str]
) -> Place:
    pool, space = settings["pool"], None
    # Others' pools can't be seen.  In a cluster it is that of one member.
    with contextlib.suppress(errors.CommandFailed, errors.Restricted):
        space = incus.pool_space(pool)
    return Place(
        pool=pool,
        pool_size=space and space[0],
        device_size=parse(settings.get("size", "")),
        enlarge_pool="Enlarge the pool: incus storage set"
        f" {incus.target(pool)} size=...",
        enlarge_device="Allow more: incus profile device set"
        f" {incus.target(profile)} {device}",
        profile=profile,
    )


def parse(text: str) -> int | None:
    """Return the bytes of a size in Incus's notation; None for other texts."""
    found = re.fullmatch(r"(\d+)\s*([a-zA-Z]*)", text)
    if not found or found[2] not in _UNITS:
        return None
    return int(found[1]) * _UNITS[found[2]]
