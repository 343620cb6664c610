# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose the profiles of an imported image's instances."""

from collections.abc import Mapping

from incus_testbed import errors
from incus_testbed.incus import records
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import Image

#: The profile's name unless an admin has chosen another.
USUAL = "debusine"
#: Key of the project's configuration: the name that the admin has chosen.
KEY = "user.incus-testbed.profile"


def chosen(incus: Incus) -> str:
    """Return the name of the profile that images of a project get.

    It is the usual one if this user may not read the project's configuration,
    or if Incus does not answer.
    """
    try:
        return incus.project_config().get(KEY) or USUAL
    except errors.TestbedError:
        return USUAL


def for_vms(profile: str) -> str:
    """Return the second profile of virtual machines, which has their limits."""
    return f"{profile}-vm"


def of(image: Image, profile: str) -> list[str]:
    """Return the profiles of instances of an image; the last one wins."""
    is_vm = image.kind == records.MACHINE
    return [profile, *([for_vms(profile)] if is_vm else [])]


def root_disks(devices: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return the names of a profile's root disks; there should be one.

    Other disks may have no path: the drive with Incus' agent has none.
    """
    return [
        name
        for name, device in devices.items()
        if device.get("type") == "disk" and device.get("path") == "/"
    ]
