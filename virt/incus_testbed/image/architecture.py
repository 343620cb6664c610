# SPDX-License-Identifier: GPL-3.0-or-later
"""Determine an image's architecture, and whether a server runs it."""

from incus_testbed import errors
from incus_testbed.image.labels import Labels
from incus_testbed.system.architecture import (
    WIDER,
    Supported,
    incus_name,
    runs,
    where,
)
from incus_testbed.system.disk import DiskSystem
from incus_testbed.system.facts import Facts


def of(facts: Facts | None, disk: DiskSystem | None, label: Labels) -> str:
    """Return Debian's name of an image's architecture.

    The system in the image decides, then its boot loaders, then the label.

    :raises errors.BadImage: it is unknown
    """
    if facts:
        return facts.architecture
    bootable = disk.boot_loader.architectures if disk else frozenset()
    if label.architecture in bootable or len(bootable) == 1:
        return label.architecture or next(iter(bootable))
    raise errors.BadImage(
        "The architecture of the disk's system is unknown",
        details=f"It has boot loaders for {', '.join(sorted(bootable))}, and a"
        " root file system that can't be read here.",
        resolution="Give it with --architecture.",
    )


def check(
    architecture: str, label: Labels, supported: Supported, *, vm: bool
) -> None:
    """Refuse an image that has a wrong label, or that the server can't run.

    ``vm``: it is that of a virtual machine.

    :raises errors.BadImage: names both architectures
    """
    if label.architecture and label.architecture != architecture:
        raise errors.BadImage(
            f"The image holds {architecture}, not {label.architecture}",
            resolution="Leave out --architecture, or use another file.",
        )
    if vm and architecture in WIDER:
        raise errors.BadImage(
            f"Incus has no virtual machines of {architecture}",
            details="The disk holds a system of that architecture.",
            resolution=f"Use a disk of {WIDER[architecture][-1]}, or a tarball"
            f" of {architecture}, which becomes a container.",
        )
    name = incus_name(architecture)
    if name not in (supported.machines if vm else supported.containers):
        raise errors.BadImage(
            f"The image is for {architecture}, which this server can't run",
            details=runs(supported, vm=vm),
            resolution=f"{where(architecture, vm=vm)}: incus-testbed"
            " --remote=NAME import, or import it there.",
        )
