# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe an image's system for Incus."""

from collections.abc import Mapping
from dataclasses import dataclass

from incus_testbed.customise import vm
from incus_testbed.image import architecture
from incus_testbed.image.labels import Labels
from incus_testbed.system.disk import DiskSystem
from incus_testbed.system.facts import Facts


@dataclass(frozen=True, kw_only=True)
class Description:
    """The facts about an image's system that Incus is told.

    ``architecture`` is Debian's name.  ``machine_ids`` are the files that
    give each copy of the system the same id.  ``last_file`` is the path of the
    file that comes last in a container's image, empty if that tells nothing.
    ``vm`` holds the properties of a virtual machine's image; None for a
    container's.
    """

    architecture: str
    vendor: str = ""
    codename: str = ""
    machine_ids: tuple[str, ...] = ()
    last_file: str = ""
    vm: Mapping[str, str] | None = None


def describe(system: Facts | DiskSystem, label: Labels) -> Description:
    """Return the description of a surveyed system.

    :raises errors.BadImage: its architecture is unknown, or nothing would
        start Incus' agent in a virtual machine
    """
    disk = system if isinstance(system, DiskSystem) else None
    facts = system.facts if isinstance(system, DiskSystem) else system
    return Description(
        architecture=architecture.of(facts, disk, label),
        vendor=facts.vendor if facts else "",
        codename=facts.codename if facts else "",
        machine_ids=facts.machine_ids if facts else (),
        vm=vm.properties(disk) if disk else None,
    )
