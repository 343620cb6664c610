# SPDX-License-Identifier: GPL-3.0-or-later
"""The profile that testbeds are launched with.

What an admin adds to it, limits for instance, is left as it is.
"""

from collections.abc import Iterator, Mapping

from incus_testbed import errors
from incus_testbed.client import Incus
from incus_testbed.host.requirement import Finding, State, good

#: A read-only /sys: systemd in a container starts no udev then.
RAW_LXC = "lxc.mount.auto=sys"

Devices = Mapping[str, Mapping[str, str]]


def check(incus: Incus, name: str, *, network: str, pool: str) -> Finding:
    """Look for the profile and what it has to hold."""
    wanted = devices(network=network, pool=pool)
    target = incus.target(name)
    try:
        profile = incus.profile(name)
    except errors.NotFound:
        return Finding(
            state=State.FAILED,
            detail="it does not exist",
            fix=(
                ("incus", "profile", "create", target),
                *_changes(target, {}, {}, wanted),
            ),
        )
    changes = _changes(target, profile["config"], profile["devices"], wanted)
    if fix := tuple(changes):
        return Finding(
            state=State.FAILED, detail="it lacks what testbeds need", fix=fix
        )
    return good(f"network {network}, pool {pool}")


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
) -> Iterator[tuple[str, ...]]:
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
) -> Iterator[tuple[str, ...]]:
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
