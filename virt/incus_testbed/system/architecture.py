# SPDX-License-Identifier: GPL-3.0-or-later
"""Name architectures as Debian and Incus do, and say where they run."""

from collections.abc import Sequence
from dataclasses import dataclass

from incus_testbed import errors

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


#: The processors that also run programs of a 32-bit architecture.  Incus has
#: containers of these, but no virtual machines (qemuArchConfig() in Incus'
#: driver_qemu.go).
WIDER = {
    "armel": ("armhf", "arm64"),
    "armhf": ("arm64",),
    "i386": ("amd64",),
}


@dataclass(frozen=True, kw_only=True)
class Supported:
    """Incus's names of the architectures that a server runs.

    ``containers`` may have some beside that of the processor.  ``machines``
    are those of virtual machines: in a cluster, one for each kind of member.
    """

    containers: Sequence[str]
    machines: Sequence[str]


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


def runs(supported: Supported, *, vm: bool) -> str:
    """Return a sentence that says what a server runs."""
    if vm:
        return f"Its virtual machines are {', '.join(supported.machines)}."
    return f"It runs {', '.join(supported.containers)}."


def where(architecture: str, *, vm: bool) -> str:
    """Return the beginning of a sentence that says where an image runs."""
    wider = () if vm else WIDER.get(architecture, ())
    return (
        f"It runs on an Incus server of {' or '.join((architecture, *wider))}"
    )


def debian_name(incus_name: str) -> str:
    """Return a Debian architecture that Incus calls so, or the name."""
    names = (
        debian for debian, name in _INCUS_NAMES.items() if name == incus_name
    )
    return next(names, incus_name)
