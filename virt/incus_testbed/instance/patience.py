# SPDX-License-Identifier: GPL-3.0-or-later
"""How many seconds an instance has to boot: more if its host is slow."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.process import programs

#: Sets the seconds for a guest to boot, for containers and virtual machines.
LIMIT_VARIABLE = "INCUS_TESTBED_BOOT_LIMIT"
#: Seconds for a guest to boot, including its network.  A container uses the
#: kernel of the host; a virtual machine first starts its firmware and kernel.
_CONTAINER_LIMIT = 120.0
_VM_LIMIT = 600.0

#: What these become at most: a host whose processor QEMU emulates gets all of
#: it, and one that is busy as many times the usual as processes want each of
#: its processors.
_MOST = 3.0
#: Who has made this machine.
_VENDOR = Path("/sys/class/dmi/id/sys_vendor")
#: Seconds for systemd-detect-virt; it needs none.
_DETECT_LIMIT = 10.0
#: What systemd-detect-virt says of such a host, and what QEMU calls its
#: processor or, where that has a real one's name, its system.
_EMULATED = "qemu"
_EMULATED_CPU = "QEMU TCG CPU"
_EMULATED_SYSTEM = "QEMU Virtual Machine"


def limit(incus: Incus, *, vm: bool) -> float:
    """Return the seconds that a container, or virtual machine, has to boot.

    :raises errors.Unsupported: the variable is not a number of seconds
    """
    said = os.environ.get(LIMIT_VARIABLE)
    if not said:
        usual = _VM_LIMIT if vm else _CONTAINER_LIMIT
        return usual * factor(incus, ask=vm)
    if not said.isdecimal() or not int(said):
        raise errors.Unsupported(
            f"{LIMIT_VARIABLE}={said} is not a number of seconds"
        )
    return float(said)


def factor(incus: Incus, *, ask: bool) -> float:
    """Return how many times as long as usual things may take on the host.

    It is from 1 to 3.  A remote's host is as usual unless ``ask``: it takes a
    moment to ask it.
    """
    return min(max(_slowness(incus, ask), 1), _MOST)


def _slowness(incus: Incus, ask: bool) -> float:
    try:
        if incus.is_local():
            return _slowness_here()
        return _slowness_of(incus.resources()) if ask else 1
    except errors.TestbedError:
        return 1  # not everyone may know


def _slowness_here() -> float:
    if _is_emulated_here():
        return _MOST
    return os.getloadavg()[0] / (os.cpu_count() or 1)


def _is_emulated_here() -> bool:
    """Tell whether this machine's processor is emulated by QEMU.

    A machine that is not QEMU's is spared the start of a program.
    """
    try:
        vendor = _VENDOR.read_text(errors="replace")
    except OSError:
        return False
    if vendor.strip() != "QEMU":
        return False
    said = programs.output(
        ["systemd-detect-virt", "--vm"], timeout=_DETECT_LIMIT
    )
    return said is not None and said.strip() == _EMULATED


def _slowness_of(resources: dict[str, Any]) -> float:
    """Return how slow a machine is by what the server on it says."""
    cpu = resources["cpu"]
    if any(_is_emulated(name) for name in _names(resources)):
        return _MOST
    load = (resources.get("load") or {}).get("Average1Min", 0)
    return float(load) / max(int(cpu["total"]), 1)


def _is_emulated(name: str) -> bool:
    return name.startswith(_EMULATED_CPU) or name == _EMULATED_SYSTEM


def _names(resources: dict[str, Any]) -> Iterable[str]:
    """Yield the names of the processors and of the system."""
    for socket in resources["cpu"].get("sockets") or ():
        yield socket.get("name") or ""
    yield (resources.get("system") or {}).get("product") or ""
