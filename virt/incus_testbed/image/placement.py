# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a disk fits where the instances made of it will be."""

import contextlib
import re
from collections.abc import Mapping

from incus_testbed import errors
from incus_testbed.client import Incus
from incus_testbed.image import profiles

_UNITS: dict[str, int] = {
    "": 1,
    "B": 1,
    **{f"{prefix}B": 1000**n for n, prefix in enumerate("kMGTPE", 1)},
    **{f"{prefix}iB": 1024**n for n, prefix in enumerate("KMGTPE", 1)},
}


def check(incus: Incus, size: int) -> None:
    """Refuse a disk that the profiles' root device has no place for.

    A profile that isn't there, or has none, is left to the launch.

    :raises errors.BadImage: with both sizes
    """
    usual = profiles.chosen(incus)
    # The last one that has a root device wins.
    for name in (profiles.for_machines(usual), usual):
        with contextlib.suppress(errors.NotFound):
            for device, settings in incus.profile(name)["devices"].items():
                if settings.get("type") == "disk" and settings["path"] == "/":
                    _check_pool(incus, size, settings["pool"])
                    _check_device(incus, size, name, device, settings)
                    return


def _check_pool(incus: Incus, size: int, pool: str) -> None:
    total = _total(incus, pool)
    if total is not None and size > total:
        raise errors.BadImage(
            f"The disk is too large for the storage pool {pool}",
            details=f"It has {_gib(size)}, and the pool {_gib(total)}.",
            resolution="Enlarge the pool: incus storage set"
            f" {incus.target(pool)} size=...",
        )


def _check_device(
    incus: Incus,
    size: int,
    profile: str,
    device: str,
    settings: Mapping[str, str],
) -> None:
    most = parse(settings.get("size", ""))
    if most is not None and size > most:
        raise errors.BadImage(
            f"The disk is larger than the profile {profile} allows",
            details=f"It has {_gib(size)}, and the root device {_gib(most)}.",
            resolution="Allow more: incus profile device set"
            f" {incus.target(profile)} {device} size={size}",
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
