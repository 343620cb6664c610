# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the profiles with which testbeds are launched.

One profile is for all testbeds, a second one adds the needs of virtual
machines.  A device is recognised by its function, not by its name: Debusine's
own script calls the network card host0, our setup calls it eth0.  Additions and
settings of an admin, such as limits, networks and devices, are kept.
"""

from collections.abc import Callable, Mapping

from incus_testbed import errors
from incus_testbed.host import card, cluster, limits
from incus_testbed.host.devices import (
    Ambiguous,
    Commands,
    Device,
    Devices,
    change,
    free_name,
    remove_double,
    set_missing,
    words,
)
from incus_testbed.host.requirement import Finding, failed, good
from incus_testbed.image.profiles import root_disks
from incus_testbed.incus.client import Incus

#: This makes /sys read-only, so that systemd in a container starts no udev.
RAW_LXC = "lxc.mount.auto=sys"
#: Without this, tests and builds can't make their own containers in user
#: namespaces, as sbuild, mmdebstrap, bubblewrap and podman do: each of them
#: mounts a /proc, which the kernel then refuses in a container.
NESTING = "security.nesting"

#: The root disk of an earlier setup, with all its keys.
_OUR_ROOT = ("root", {"type", "path", "pool"})


def check(
    incus: Incus,
    name: str,
    *,
    network: str,
    new_card: Device,
    pool: str,
    raw: bool = True,
) -> Finding:
    """Check that the profile exists and holds the needed settings.

    ``raw``: the project allows settings of LXC itself.  Without them our
    generator keeps udev out (customise/overlay/lxc-generator).
    ``new_card`` are further settings for a network card that has to be made.
    """
    target = incus.target(name)

    def changes(config: Mapping[str, str], present: Devices) -> Commands:
        if raw:
            yield from _settings(target, config)
        yield from card.changes(target, present, network, new_card)
        yield from _root_changes(target, present, {"pool": pool})

    return _compare(
        incus, name, changes, lambda _: f"network {network}, pool {pool}"
    )


def check_nesting(incus: Incus, name: str) -> Finding:
    """Check whether tests may make their own containers.

    If the setting is "false", an admin has chosen that.
    """
    try:
        config = incus.profile(name)["config"]
    except errors.NotFound:
        config = {}
    if NESTING in config:
        return good(f"{NESTING} is {config[NESTING]}")
    target = incus.target(name)
    return failed(
        "tests can't make their own containers",
        fix=(("incus", "profile", "set", target, f"{NESTING}=true"),),
    )


def check_for_vms(
    incus: Incus, name: str, *, beside: str, pool: str
) -> Finding:
    """Check the profile that virtual machines have in addition to ``beside``.

    Without it, Incus gives them one processor and 1 GiB of memory.
    """
    target = incus.target(name)
    root = root_name(devices_of(incus, beside))

    def changes(config: Mapping[str, str], present: Devices) -> Commands:
        if not config.keys() >= limits.OF_VMS:
            settings = {**limits.of_vms(cluster.smallest(incus)), **config}
            wanted = {key: settings[key] for key in sorted(limits.OF_VMS)}
            yield ("incus", "profile", "set", target, *words(wanted))
        for other in root_disks(present):
            # It would be a second root disk, next to the other profile's.
            if other != root:
                yield change("remove", target, other)
        size = present.get(root, {}).get("size", limits.VM_ROOT)
        here = {key: present[key] for key in present if key == root}
        yield from _root_changes(
            target, here, {"pool": pool, "size": size}, root
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


def devices_of(incus: Incus, name: str) -> Devices:
    """Return the devices of a profile; none if it can't be read."""
    try:
        devices: Devices = incus.profile(name)["devices"]
    except errors.TestbedError:
        return {}
    return devices


def network_of(devices: Devices) -> str | None:
    """Return the network or bridge of the card that testbeds use, if any."""
    name = card.find(devices)
    return card.network_of(devices[name]) if name else None


def pool_of(devices: Devices) -> str | None:
    """Return the storage pool of the root disk, if there is one."""
    for name in root_disks(devices):
        return devices[name].get("pool")
    return None


def root_name(devices: Devices) -> str:
    """Return the name of the root disk, or the name to give to a new one."""
    return next(iter(root_disks(devices)), free_name("root", devices))


def _compare(
    incus: Incus,
    name: str,
    changes: Callable[[Mapping[str, str], Devices], Commands],
    summary: Callable[[Mapping[str, str]], str],
) -> Finding:
    """Compare a profile with the wanted one.

    ``changes`` returns the commands that correct a configuration and devices,
    ``summary`` describes a correct configuration.
    """
    try:
        profile = incus.profile(name)
    except errors.NotFound:
        create = ("incus", "profile", "create", incus.target(name))
        return failed(
            "it does not exist",
            fix=(create, *changes({}, {})),
        )
    try:
        fix = tuple(changes(profile["config"], profile["devices"]))
    except Ambiguous as several:
        return failed(
            f"launches fail: {several}",
            advice="Remove all but one:"
            f" incus profile device remove {incus.target(name)} DEVICE",
        )
    if fix:
        verbs = {command[3] for command in fix}
        return failed(
            "launches fail: two of its devices do the same"
            if verbs == {"remove"}
            else "its settings are not those that testbeds need",
            fix=fix,
        )
    return good(summary(profile["config"]))


def _settings(target: str, config: Mapping[str, str]) -> Commands:
    lines = config.get("raw.lxc", "").splitlines()
    if RAW_LXC not in ("".join(line.split()) for line in lines):
        value = "\n".join([*lines, RAW_LXC])
        yield ("incus", "profile", "set", target, f"raw.lxc={value}")


def _root_changes(
    target: str, present: Devices, wanted: Device, name: str = ""
) -> Commands:
    """Yield the commands for exactly one root disk with these settings.

    ``name`` is for a new one.
    """
    roots = root_disks(present)
    if len(roots) > 1:
        yield from remove_double(target, present, roots, _OUR_ROOT)
    elif roots:
        yield from set_missing(target, roots[0], present[roots[0]], wanted)
    else:
        new = name or free_name("root", present)
        settings = {"path": "/", **wanted}
        yield change("add", target, new, "disk", *words(settings))
