# SPDX-License-Identifier: GPL-3.0-or-later
"""The profiles that testbeds are launched with.

One is for all of them, another adds what virtual machines need.  What an admin
adds to them, or sets otherwise, limits for instance, is left as it is.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from incus_testbed import errors
from incus_testbed.client import Incus
from incus_testbed.host.requirement import Finding, State, good

#: A read-only /sys: systemd in a container starts no udev then.
RAW_LXC = "lxc.mount.auto=sys"

_MIB, _GIB = 1 << 20, 1 << 30
#: Of a virtual machine: at most so many processors, a quarter of the memory
#: within these bounds, and a disk that takes what is in use.
_PROCESSORS = 4
_MEMORY = (1 * _GIB, 8 * _GIB)
_ROOT_SIZE = "20GiB"
_LIMITS = {"limits.cpu", "limits.memory"}

Commands = Iterator[tuple[str, ...]]
Devices = Mapping[str, Mapping[str, str]]


def check(incus: Incus, name: str, *, network: str, pool: str) -> Finding:
    """Look for the profile and what it has to hold."""
    wanted = devices(network=network, pool=pool)
    target = incus.target(name)

    def changes(config: Mapping[str, str], present: Devices) -> Commands:
        return _changes(target, config, present, wanted)

    return _compare(
        incus, name, changes, lambda _: f"network {network}, pool {pool}"
    )


def check_for_machines(incus: Incus, name: str, *, pool: str) -> Finding:
    """Look for the profile that virtual machines have beside the other.

    Incus would give them one processor and 1 GiB.
    """
    target = incus.target(name)

    def changes(config: Mapping[str, str], present: Devices) -> Commands:
        if not config.keys() >= _LIMITS:
            settings = {**limits(incus.resources()), **config}
            words = (f"{key}={settings[key]}" for key in sorted(_LIMITS))
            yield ("incus", "profile", "set", target, *words)
        root = {"type": "disk", "path": "/", "pool": pool}
        if "size" not in present.get("root", {}):
            root["size"] = _ROOT_SIZE
        yield from _device_changes(
            target, "root", present.get("root", {}), root
        )

    return _compare(
        incus,
        name,
        changes,
        lambda config: (
            f"limits: {config['limits.cpu']} processors,"
            f" {config['limits.memory']} of memory"
        ),
    )


def limits(resources: Mapping[str, Any]) -> dict[str, str]:
    """Return how much of a host's resources a virtual machine gets."""
    least, most = _MEMORY
    memory = max(least, min(resources["memory"]["total"] // 4, most))
    return {
        "limits.cpu": str(min(resources["cpu"]["total"], _PROCESSORS)),
        "limits.memory": f"{memory // _MIB}MiB",
    }


def _compare(
    incus: Incus,
    name: str,
    changes: Callable[[Mapping[str, str], Devices], Commands],
    summary: Callable[[Mapping[str, str]], str],
) -> Finding:
    """Find how a profile differs: ``changes`` mend a config and devices."""
    try:
        profile = incus.profile(name)
    except errors.NotFound:
        create = ("incus", "profile", "create", incus.target(name))
        return Finding(
            state=State.FAILED,
            detail="it does not exist",
            fix=(create, *changes({}, {})),
        )
    if fix := tuple(changes(profile["config"], profile["devices"])):
        return Finding(
            state=State.FAILED, detail="it lacks what testbeds need", fix=fix
        )
    return good(summary(profile["config"]))


def devices(*, network: str, pool: str) -> Devices:
    """Return the devices of the profile."""
    return {
        # systemd-networkd sets up an interface of this name by itself.
        "eth0": {"type": "nic", "name": "host0", "network": network},
        "root": {"type": "disk", "path": "/", "pool": pool},
    }


def _changes(
    target: str,
    config: Mapping[str, str],
    present: Devices,
    wanted: Devices,
) -> Commands:
    """Yield the commands that lead from what is present to what is wanted."""
    lines = config.get("raw.lxc", "").splitlines()
    if RAW_LXC not in ("".join(line.split()) for line in lines):
        value = "\n".join([*lines, RAW_LXC])
        yield ("incus", "profile", "set", target, f"raw.lxc={value}")
    for name, settings in wanted.items():
        yield from _device_changes(
            target, name, present.get(name, {}), settings
        )


def _device_changes(
    target: str,
    name: str,
    present: Mapping[str, str],
    wanted: Mapping[str, str],
) -> Commands:
    different = [
        f"{key}={value}"
        for key, value in wanted.items()
        if present.get(key) != value and key != "type"
    ]
    device = ("incus", "profile", "device")
    if present.get("type") == wanted["type"]:
        if different:
            yield (*device, "set", target, name, *different)
        return
    if present:
        yield (*device, "remove", target, name)
    # All of it is different then.
    yield (*device, "add", target, name, wanted["type"], *different)
