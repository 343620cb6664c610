# SPDX-License-Identifier: GPL-3.0-or-later
"""Check what a testbed may use of the machine.

One testbed must not take the machine down, but a worker runs one task at a time
and wants it to be fast.  So a testbed may use most of the machine, and there is
no limit of processors: the kernel shares them fairly between the testbeds and
the machine's own services, however many processes each has.
"""

from collections.abc import Mapping
from typing import Any

from incus_testbed import errors
from incus_testbed.host import cluster
from incus_testbed.host import local as host_local
from incus_testbed.host.devices import change, words
from incus_testbed.host.requirement import Finding, failed, good, warning
from incus_testbed.image.profiles import root_disks
from incus_testbed.incus.client import Incus

#: Key of the profile: "none" if the admin wants no limits.
_CHOICE = "user.incus-testbed.limits"

_MIB, _GIB = 1 << 20, 1 << 30

#: What the machine keeps for itself, Incus and a worker: an eighth of its
#: memory, at least this much, but never more than half.
_RESERVE = 1 * _GIB
#: A large build on many processors has a few thousand processes and threads,
#: and the kernel takes about 1 GiB for so many that do nothing.
_PROCESSES = 16384
#: Programs in a testbed that make user namespaces need more ids there: Debian
#: gives each user 65536, from 100000 on.  This is enough for a dozen users.
_IDS = 1 << 20
#: Testbeds for which the machine has to have ids of their own.
_TESTBEDS = 16

#: Incus ignores a limit if the kernel, or the boot loader, gives it no
#: controller for it; then it warns in these words.
_IGNORED = {
    "limits.memory": "Couldn't find the CGroup memory controller",
    "limits.processes": "Couldn't find the CGroup pids controller",
}

#: A virtual machine gets at most _PROCESSORS processors, a quarter of the
#: host's memory within the bounds _MEMORY, and a disk of VM_ROOT, which
#: takes only the space that is in use.
OF_VMS = {"limits.cpu", "limits.memory"}
_PROCESSORS = 4
_MEMORY = (1 * _GIB, 8 * _GIB)
VM_ROOT = "20GiB"


def of_vms(resources: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that give a virtual machine its resources."""
    least, most = _MEMORY
    memory = max(least, min(resources["memory"]["total"] // 4, most))
    return {
        "limits.cpu": str(min(resources["cpu"]["total"], _PROCESSORS)),
        "limits.memory": f"{memory // _MIB}MiB",
    }


def of_containers(resources: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that leave the machine what it needs."""
    total = resources["memory"]["total"]
    reserve = min(max(total // 8, _RESERVE), total // 2)
    return {
        "limits.memory": f"{(total - reserve) // _MIB}MiB",
        "limits.processes": str(_PROCESSES),
    }


def check(incus: Incus, name: str, *, disk: int | None) -> Finding:
    """Check a profile's limits; the fix adds those that are absent.

    ``disk`` is how many bytes a root disk may have, None if the pool can't
    limit that.
    """
    try:
        profile = incus.profile(name)
    except errors.NotFound:
        profile = {"config": {}, "devices": {}}
    config = profile["config"]
    if are_unwanted(config):
        return good("none, as an admin has chosen")
    target = incus.target(name)
    wanted = of_containers(cluster.smallest(incus))
    absent = {key: wanted[key] for key in wanted if key not in config}
    fix = []
    if absent:
        fix.append(("incus", "profile", "set", target, *words(absent)))
    root = next(iter(root_disks(profile["devices"])), "root")
    if disk and "size" not in profile["devices"].get(root, {}):
        fix.append(change("set", target, root, f"size={disk // _MIB}MiB"))
    if fix:
        return failed(
            "one testbed can take all memory, processes or disk space",
            fix=tuple(fix),
        )
    if ignored := _ignored(incus):
        return warning(
            f"without effect: {' '.join(ignored)}, since the kernel does not"
            " give Incus the cgroup controllers for it",
            advice="On Debian's own kernel and systemd it does. On another,"
            " boot with systemd.unified_cgroup_hierarchy=1"
            " cgroup_enable=memory; then systemctl restart incus",
        )
    return good(
        f"{config['limits.memory']} of memory,"
        f" {config['limits.processes']} processes"
    )


def are_unwanted(config: Mapping[str, str]) -> bool:
    """Tell whether the admin wants none, by a profile's settings."""
    return config.get(_CHOICE) == "none"


def _ignored(incus: Incus) -> list[str]:
    """Return the limits that have no effect on the server."""
    current = {
        warning["type"]
        for warning in incus.warnings()
        if warning["status"] != "resolved"
    }
    return [key for key, message in _IGNORED.items() if message in current]


def check_ids(incus: Incus, name: str) -> Finding:
    """Check that each testbed has user ids of its own on the host.

    If the setting is "false", an admin has chosen that.
    """
    try:
        config = incus.profile(name)["config"]
    except errors.NotFound:
        config = {}
    key = "security.idmap.isolated"
    if key in config:
        return good(f"{key} is {config[key]}")
    if not host_local.has_ids(_IDS * _TESTBEDS):
        return warning(
            "all testbeds have the same: root has too few for each to have its"
            " own",
            advice=host_local.IDS_ADVICE,
        )
    settings = {key: "true", "security.idmap.size": str(_IDS)}
    target = incus.target(name)
    return failed(
        "all testbeds have the same: one that breaks out reaches all",
        fix=(("incus", "profile", "set", target, *words(settings)),),
    )
