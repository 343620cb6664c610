# SPDX-License-Identifier: GPL-3.0-or-later
"""Virtual machines: whether this host can run them, and why not.

Not every host has to: what is missing is told, and fails nothing.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from incus_testbed.client import Incus
from incus_testbed.host import server
from incus_testbed.host.requirement import Finding, State, good

DRIVER = "qemu"

#: QEMU for a kernel's name of a processor (uname -m), and Debian's packages of
#: it and of its firmware; the firmware's files.
_QEMU = {
    "x86_64": (
        "qemu-system-x86_64",
        "qemu-system-x86",
        "ovmf",
        "usr/share/OVMF/OVMF_CODE*.fd",
    ),
    "aarch64": (
        "qemu-system-aarch64",
        "qemu-system-arm",
        "qemu-efi-aarch64",
        "usr/share/AAVMF/AAVMF_CODE*.fd",
    ),
}
#: What Incus runs for virtual machines, and Debian's packages of it: to unpack
#: their images, for their disks on btrfs, for disks that are made larger, and
#: for the agent's CD-ROM.
_PROGRAMS = {
    ("qemu-img",): "qemu-utils",
    ("chattr",): "e2fsprogs",
    ("sgdisk",): "gdisk",
    ("mkisofs", "genisoimage"): "genisoimage",
}
#: Incus tells QEMU of a SPICE console, which Debian has in a package apart.
_SPICE = "usr/lib/*/qemu/ui-spice-core.so"

#: KiB of memory below which a guest has too little beside its host.
_MEMORY = 2 << 20


@dataclass(frozen=True)
class Obstacle:
    """What is in the way of virtual machines, and what removes it, if known."""

    what: str
    remedy: str = ""


def check(incus: Incus, *, local: bool) -> Finding:
    """Ask the server whether it runs virtual machines; look why it doesn't.

    ``local`` tells whether the server is this machine.
    """
    operational = DRIVER in server.drivers(incus)
    found = list(obstacles()) if local else []
    if operational and not found:
        return good("Incus runs them")
    if local and not found:
        found = [
            Obstacle(
                "Incus did not find what it needs when it started",
                "systemctl restart incus; if that does not do:"
                " incus warning list",
            )
        ]
    why = "; ".join(obstacle.what for obstacle in found)
    return Finding(
        state=State.NOTE,
        detail=f"not possible here: {why}" if why else "not possible there",
        advice="\n".join(
            obstacle.remedy for obstacle in found if obstacle.remedy
        ),
    )


def obstacles(root: Path = Path("/")) -> Iterator[Obstacle]:
    """Yield what this machine lacks; Incus itself, as root, may use all."""
    if not (root / "dev/kvm").exists():
        yield Obstacle(
            "no /dev/kvm: the processor's virtualisation is absent, or off in"
            " the firmware or, where this is a guest itself, in its host"
        )
    if not (root / "dev/vhost-vsock").exists():
        yield Obstacle("no /dev/vhost-vsock", "modprobe vhost_vsock")
    yield from _programs(root, os.uname().machine)
    if (memory := _memory(root)) < _MEMORY:
        yield Obstacle(f"only {memory >> 10} MiB of memory")


def _programs(root: Path, processor: str) -> Iterator[Obstacle]:
    if processor not in _QEMU:
        yield Obstacle(f"Incus has none for {processor}")
        return
    program, package, firmware_package, firmware = _QEMU[processor]
    missing = [
        needed
        for names, needed in {(program,): package, **_PROGRAMS}.items()
        if not any(_is_there(root, name) for name in names)
    ]
    if package not in missing and not any(root.glob(_SPICE)):
        missing.append("qemu-system-modules-spice")
    if not any(root.glob(firmware)):
        missing.append(firmware_package)
    if missing:
        packages = " ".join(missing)
        yield Obstacle(
            f"not installed: {', '.join(missing)}",
            f"apt install {packages} && systemctl restart incus",
        )


def _is_there(root: Path, program: str) -> bool:
    path = ":".join(
        str(root / folder)
        for folder in ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin")
    )
    return shutil.which(program, path=path) is not None


def _memory(root: Path) -> int:
    """Return this machine's memory in KiB."""
    for line in (root / "proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1])
    return 0
