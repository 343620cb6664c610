# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the profiles with which testbeds are launched.

One profile is for all testbeds, a second one adds the needs of virtual
machines.  A device is recognised by its function, not by its name: Debusine's
own script calls the network card host0, our setup calls it eth0.  Additions and
settings of an admin, such as limits, networks and devices, are kept.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from incus_testbed import errors
from incus_testbed.host.requirement import Finding, failed, good
from incus_testbed.image.profiles import root_disks
from incus_testbed.incus.client import Incus

#: This makes /sys read-only, so that systemd in a container starts no udev.
RAW_LXC = "lxc.mount.auto=sys"
#: Without this, tests and builds can't make their own containers in user
#: namespaces, as sbuild, mmdebstrap, bubblewrap and podman do: each of them
#: mounts a /proc, which the kernel then refuses in a container.
NESTING = "security.nesting"

#: systemd-networkd sets up an interface of this name by itself.
NIC = "host0"

_MIB, _GIB = 1 << 20, 1 << 30
#: A virtual machine gets at most _PROCESSORS processors, a quarter of the
#: host's memory within the bounds _MEMORY, and a disk of _ROOT_SIZE, which
#: takes only the space that is in use.
_PROCESSORS = 4
_MEMORY = (1 * _GIB, 8 * _GIB)
_ROOT_SIZE = "20GiB"
_LIMITS = {"limits.cpu", "limits.memory"}

#: The devices that setup makes, each with all its keys.
_OUR_CARD = ("eth0", {"type", "name", "network"})
_OUR_ROOT = ("root", {"type", "path", "pool"})

Commands = Iterator[tuple[str, ...]]
Device = Mapping[str, str]
Devices = Mapping[str, Device]


class Ambiguous(Exception):
    """Several devices have the same function, and a person must choose one."""


def check(
    incus: Incus, name: str, *, network: str, pool: str, raw: bool = True
) -> Finding:
    """Check that the profile exists and holds the needed settings.

    ``raw``: the project allows settings of LXC itself.  Without them our
    generator keeps udev out (customise/overlay/lxc-generator).
    """
    target = incus.target(name)

    def changes(config: Mapping[str, str], present: Devices) -> Commands:
        if raw:
            yield from _settings(target, config)
        yield from _network_changes(target, present, network)
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
        if not config.keys() >= _LIMITS:
            settings = {**limits(incus.resources()), **config}
            words = (f"{key}={settings[key]}" for key in sorted(_LIMITS))
            yield ("incus", "profile", "set", target, *words)
        for other in root_disks(present):
            # It would be a second root disk, next to the other profile's.
            if other != root:
                yield _device("remove", target, other)
        size = present.get(root, {}).get("size", _ROOT_SIZE)
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


def limits(resources: Mapping[str, Any]) -> dict[str, str]:
    """Return the settings that give a virtual machine its resources."""
    least, most = _MEMORY
    memory = max(least, min(resources["memory"]["total"] // 4, most))
    return {
        "limits.cpu": str(min(resources["cpu"]["total"], _PROCESSORS)),
        "limits.memory": f"{memory // _MIB}MiB",
    }


def devices_of(incus: Incus, name: str) -> Devices:
    """Return the devices of a profile; none if it can't be read."""
    try:
        devices: Devices = incus.profile(name)["devices"]
    except errors.TestbedError:
        return {}
    return devices


def network_of(devices: Devices) -> str | None:
    """Return the network or bridge of the card that testbeds use, if any."""
    card = _card(devices)
    return _network(devices[card]) if card else None


def pool_of(devices: Devices) -> str | None:
    """Return the storage pool of the root disk, if there is one."""
    for name in root_disks(devices):
        return devices[name].get("pool")
    return None


def root_name(devices: Devices) -> str:
    """Return the name of the root disk, or the name to give to a new one."""
    return next(iter(root_disks(devices)), _free("root", devices))


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


def _network_changes(target: str, present: Devices, network: str) -> Commands:
    """Yield the commands for exactly one card host0, on this network."""
    named = _named(present)
    if len(named) > 1:
        yield from _without_double(target, present, named, _OUR_CARD)
        return
    card = _card(present)
    if not card:
        name = _free("eth0", present)
        words = (name, "nic", f"name={NIC}", f"network={network}")
        yield _device("add", target, *words)
        return
    device = present[card]
    wanted = {"name": NIC}
    if _network(device) != network:
        wanted["network"] = network
    if "parent" in device and "network" in wanted:
        # Incus accepts only one of parent and network.
        yield _device("remove", target, card)
        yield _device("add", target, card, "nic", *_words(wanted))
        return
    yield from _set(target, card, device, wanted)


def _named(devices: Devices) -> list[str]:
    """Return the cards called host0; if setup made one, it is the last."""
    found = [
        name
        for name, device in devices.items()
        if _is_nic(device) and device.get("name") == NIC
    ]
    return sorted(found, key=lambda name: name == _OUR_CARD[0])


def _card(devices: Devices) -> str | None:
    """Return the card that testbeds use, or that is intended for them."""
    if named := _named(devices):
        return named[0]
    cards = [name for name, device in devices.items() if _is_nic(device)]
    if _OUR_CARD[0] in cards:
        return _OUR_CARD[0]
    nameless = [name for name in cards if "name" not in devices[name]]
    return nameless[0] if len(nameless) == 1 else None


def _root_changes(
    target: str, present: Devices, wanted: Device, name: str = ""
) -> Commands:
    """Yield the commands for exactly one root disk with these settings.

    ``name`` is for a new one.
    """
    roots = root_disks(present)
    if len(roots) > 1:
        yield from _without_double(target, present, roots, _OUR_ROOT)
    elif roots:
        yield from _set(target, roots[0], present[roots[0]], wanted)
    else:
        new = name or _free("root", present)
        words = _words({"path": "/", **wanted})
        yield _device("add", target, new, "disk", *words)


def _without_double(
    target: str,
    present: Devices,
    doubles: list[str],
    ours: tuple[str, set[str]],
) -> Commands:
    """Yield the command that removes a device which an earlier setup added.

    :raises Ambiguous: there is no such device, or several would remain
    """
    name, keys = ours
    rest = [each for each in doubles if each != name]
    if len(rest) > 1 or name not in doubles or present[name].keys() != keys:
        raise Ambiguous(f"the devices {' and '.join(doubles)} do the same")
    yield _device("remove", target, name)


def _set(target: str, name: str, present: Device, wanted: Device) -> Commands:
    different = {
        key: value for key, value in wanted.items() if present.get(key) != value
    }
    if different:
        yield _device("set", target, name, *_words(different))


def _words(settings: Device) -> Iterator[str]:
    return (f"{key}={value}" for key, value in settings.items())


def _device(verb: str, target: str, *words: str) -> tuple[str, ...]:
    return ("incus", "profile", "device", verb, target, *words)


def _is_nic(device: Device) -> bool:
    return device.get("type") == "nic"


def _network(device: Device) -> str | None:
    return device.get("network") or device.get("parent")


def _free(name: str, devices: Devices) -> str:
    """Return a device name that is not in use."""
    candidates = (name, *(f"testbed-{name}{n}" for n in ("", *range(100))))
    return next(each for each in candidates if each not in devices)
