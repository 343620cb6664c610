# SPDX-License-Identifier: GPL-3.0-or-later
"""What machine an image is for: Debian's name of it, and Incus's."""

from collections.abc import Sequence

from incus_testbed import errors
from incus_testbed.image.facts import Facts
from incus_testbed.image.labels import Labels
from incus_testbed.image.machine import Machine

# dpkg's names and Incus's, which are the kernel's; Incus knows no byte order
# for MIPS (Incus documentation, "Architectures").
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

    :raises errors.BadImage: Incus knows none
    """
    try:
        return _INCUS_NAMES[dpkg_name]
    except KeyError:
        raise errors.BadImage(
            f"Incus does not know the architecture '{dpkg_name}'",
            resolution="It knows: " + ", ".join(sorted(_INCUS_NAMES)),
        ) from None


def of(facts: Facts | None, machine: Machine | None, label: Labels) -> str:
    """Return Debian's name of an image's architecture: what is known best.

    :raises errors.BadImage: it is unknown
    """
    if facts:
        return facts.architecture
    bootable = machine.boot_loader.architectures if machine else frozenset()
    if label.architecture in bootable or len(bootable) == 1:
        return label.architecture or next(iter(bootable))
    raise errors.BadImage(
        "The architecture of the disk's system is unknown",
        details=f"It has boot loaders for {', '.join(sorted(bootable))}, and a"
        " root file system that can't be read here.",
        resolution="Say it with --architecture.",
    )


def check(architecture: str, label: Labels, supported: Sequence[str]) -> None:
    """Refuse an image for another machine than labelled, or than there is.

    ``supported`` are Incus's names.

    :raises errors.BadImage: with both architectures named
    """
    if label.architecture and label.architecture != architecture:
        raise errors.BadImage(
            f"The image holds {architecture}, not {label.architecture}",
            resolution="Leave --architecture out, or take another file.",
        )
    if incus_name(architecture) not in supported:
        raise errors.BadImage(
            f"The image is for {architecture}, which this server can't run",
            details=f"It runs {', '.join(supported)}.",
        )
