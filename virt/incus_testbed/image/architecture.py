# SPDX-License-Identifier: GPL-3.0-or-later
"""Determine an image's architecture, and translate it to Incus's name."""

from collections.abc import Sequence

from incus_testbed import errors
from incus_testbed.image.properties import Labels
from incus_testbed.system.disk import DiskSystem
from incus_testbed.system.facts import Facts

# dpkg's names, and those of Incus, which are the kernel's.  Incus does not
# distinguish byte orders of MIPS (Incus documentation, "Architectures").
_INCUS_NAMES = {
    "amd64": "x86_64",
    "arm64": "aarch64",
    "armel": "armv6l",
    "armhf": "armv7l",
    "i386": "i686",
    "loong64": "loongarch64",
    "mips": "mips",
    "mips64el": "mips64",
    "mipsel": "mips",
    "powerpc": "ppc",
    "ppc64": "ppc64",
    "ppc64el": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
}


def incus_name(dpkg_name: str) -> str:
    """Return Incus's name of a Debian architecture.

    :raises errors.BadImage: Incus does not support it
    """
    try:
        return _INCUS_NAMES[dpkg_name]
    except KeyError:
        raise errors.BadImage(
            f"Incus does not know the architecture '{dpkg_name}'",
            resolution="It knows: " + ", ".join(sorted(_INCUS_NAMES)),
        ) from None


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


def check(architecture: str, label: Labels, supported: Sequence[str]) -> None:
    """Refuse an image that has a wrong label, or that the server can't run.

    ``supported`` are Incus's names of what the server runs.

    :raises errors.BadImage: names both architectures
    """
    if label.architecture and label.architecture != architecture:
        raise errors.BadImage(
            f"The image holds {architecture}, not {label.architecture}",
            resolution="Leave out --architecture, or use another file.",
        )
    if incus_name(architecture) not in supported:
        raise errors.BadImage(
            f"The image is for {architecture}, which this server can't run",
            details=f"It runs {', '.join(supported)}.",
        )
