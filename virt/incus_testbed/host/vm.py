# SPDX-License-Identifier: GPL-3.0-or-later
"""Check whether this host can run virtual machines, and if not, why.

Not every host has to run them, so a missing part is reported but is not a
failure.
"""

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from incus_testbed.host import server
from incus_testbed.host.requirement import Finding, State, good
from incus_testbed.incus.client import Incus

DRIVER = "qemu"

#: For each processor (uname -m): the QEMU program, the Debian packages of QEMU
#: and of the firmware, and the firmware's files.
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
#: Programs that Incus runs for virtual machines, and their Debian packages: to
#: unpack images, for disks on btrfs, to enlarge disks, and to make the agent's
#: CD-ROM.
_PROGRAMS = {
    ("qemu-img",): "qemu-utils",
    ("chattr",): "e2fsprogs",
    ("sgdisk",): "gdisk",
    ("mkisofs", "genisoimage"): "genisoimage",
}
#: Incus gives QEMU a SPICE console, which Debian has in a separate package.
_SPICE = "usr/lib/*/qemu/ui-spice-core.so"

#: KiB of memory that a host needs at least, for itself and a guest.
_MEMORY = 2 << 20


@dataclass(frozen=True)
class Obstacle:
    """A reason why virtual machines can't run, and its remedy, if known."""

    what: str
    remedy: str = ""


def check(incus: Incus, *, local: bool) -> Finding:
    """Ask the server whether it runs virtual machines; find out why not.

    ``local`` tells whether the server is this machine.
    """
    operational = DRIVER in server.drivers(incus)
    found = list(obstacles()) if local else []
    if operational and not found:
        return good("Incus runs them")
    if local and not found:
        found = [
            Obstacle(
                "Incus did not find everything it needs when it started",
                "systemctl restart incus; if that does not help:"
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
    """Yield what this machine lacks.

    Access rights are not checked, because Incus runs as root.
    """
    if not (root / "dev/kvm").exists():
        yield Obstacle(
            "no /dev/kvm: the processor's virtualisation is absent or disabled"
            " in the firmware or, if this machine is a guest, by its host"
        )
    if not (root / "dev/vhost-vsock").exists():
        yield Obstacle("no /dev/vhost-vsock", "modprobe vhost_vsock")
    yield from _programs(root, os.uname().machine)
    if (memory := _memory(root)) < _MEMORY:
        yield Obstacle(f"only {memory >> 10} MiB of memory")


def _programs(root: Path, processor: str) -> Iterator[Obstacle]:
    if processor not in _QEMU:
        yield Obstacle(f"Incus has no virtual machines for {processor}")
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
