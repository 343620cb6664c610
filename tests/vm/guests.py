# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of virtual machines, as images of the Incus in the machine.

What is special about these guests is that they start without the firmware
that is usual: under OVMF an emulated machine's QEMU aborts.
"""

from pathlib import Path

from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus
from tests.vm.disks import GUESTS

_DIRECTORY = Path("/", GUESTS)

#: Of the profile for virtual machines.
_SETTINGS = {
    "limits.memory": "512MiB",
    "security.csm": "true",
    "security.secureboot": "false",
    "raw.apparmor": f"{_DIRECTORY}/** r,",
    "raw.qemu": f"-kernel {_DIRECTORY}/vmlinuz -initrd {_DIRECTORY}/initrd"
    " -append 'root=/dev/sda2 rw console=ttyS0 mitigations=off quiet"
    " loglevel=3 systemd.show_status=0 udev.event_timeout=1800'",
}


def are_here() -> bool:
    """Tell whether this is the machine that has them."""
    return _DIRECTORY.exists()


def settings() -> list[str]:
    """Return what the profile for virtual machines needs, as key=value."""
    return [f"{key}={value}" for key, value in _SETTINGS.items()]


def import_disk(incus: Incus, name: str) -> str:
    """Import ``agent`` or ``plain``, as disks.py calls them; return its alias.

    The profile for virtual machines is changed to suit.
    """
    alias = f"test/{name}"
    with (_DIRECTORY / f"{name}.raw").open("rb") as disk:
        Store(incus).add(disk, alias)
    incus.run("profile", "set", "debusine-vm", *settings())
    incus.run("profile", "device", "set", "debusine-vm", "root", "size=4GiB")
    return alias
