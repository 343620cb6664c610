# SPDX-License-Identifier: GPL-3.0-or-later
"""The profiles that testbeds are launched with.

One is for all of them, another adds what virtual machines need.  A device is
known by what it does, whatever its name is: Debusine's own script calls the
network card host0, SPEC.md eth0.  What an admin adds or has set, limits,
networks and devices for instance, is left as it is.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from incus_testbed import errors
from incus_testbed.client import Incus
from incus_testbed.host.requirement import Finding, State, good
from incus_testbed.image.profiles import root_disks

#: A read-only /sys: systemd in a container starts no udev then.
RAW_LXC = "lxc.mount.auto=sys"
#: Tests and builds make containers of their own, in user namespaces: sbuild,
#: mmdebstrap, bubblewrap, podman.  Each mounts a /proc, which the kernel
#: refuses in a container without this.
NESTING = "security.nesting"

#: systemd-networkd sets up an interface of this name by itself.
NIC = "host0"

_MIB, _GIB = 1 << 20, 1 << 30
#: Of a virtual machine: at most so many processors, a quarter of the memory
#: within these bounds, and a disk that takes what is in use.
_PROCESSORS = 4
_MEMORY = (1 * _GIB, 8 * _GIB)
_ROOT_SIZE = "20GiB"
_LIMITS = {"limits.cpu", "limits.memory"}

#: The devices that setup makes, and all their keys.
_OUR_CARD = ("eth0", {"type", "name", "network"})
_OUR_ROOT = ("root", {"type", "path", "pool"})

Commands = Iterator[tuple[str, ...]]
Device = Mapping[str, str]
Devices = Mapping[str, Device]


class Ambiguous(Exception):
    """Several devices do the same, and a person has to choose."""


def check(incus: Incus, name: str, *, network: str, pool: str) -> Finding:
    """Look for the profile and what it has to hold."""
    target = incus.target(name)

    def changes(config: Mapping[str, str], present: Devices) -> Commands:
        yield from _settings(target, config)
        yield from _network_changes(target, present, network)
        yield from _root_changes(target, present, {"pool": pool})

    return _compare(
        incus, name, changes, lambda _: f"network {network}, pool {pool}"
    )


def check_nesting(incus: Incus, name: str) -> Finding:
    """Look whether tests may make containers of their own.

    "false" is an admin's choice.
    """
    try:
        config = incus.profile(name)["config"]
    except errors.NotFound:
        config = {}
    if NESTING in config:
        return good(f"{NESTING} is {config[NESTING]}")
    target = incus.target(name)
    return Finding(
        state=State.FAILED,
        detail="tests can't make containers of their own",
        fix=(("incus", "profile", "set", target, f"{NESTING}=true"),),
    )


def check_for_machines(
    incus: Incus, name: str, *, beside: str, pool: str
) -> Finding:
    """Look for the profile that virtual machines have ``beside`` the other.

    Incus would give them one processor and 1 GiB.
    """
    target = incus.target(name)
    root = root_name(devices_of(incus, beside))

    def changes(config: Mapping[str, str], present: Devices) -> Commands:
        if not config.keys() >= _LIMITS:
            settings = {**limits(incus.resources()), **config}
            words = (f"{key}={settings[key]}" for key in sorted(_LIMITS))
            yield ("incus", "profile", "set", target, *words)
        for other in root_disks(present):
            # Beside the other profile's it would be a second root disk.
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
    """Return how much of a host's resources a virtual machine gets."""
    least, most = _MEMORY
    memory = max(least, min(resources["memory"]["total"] // 4, most))
    return {
        "limits.cpu": str(min(resources["cpu"]["total"], _PROCESSORS)),
        "limits.memory": f"{memory // _MIB}MiB",
    }


def devices_of(incus: Incus, name: str) -> Devices:
    """Return the devices of a profile; none where it can't be asked for."""
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
    """Return what the root disk is called: one there is, or would be."""
    return next(iter(root_disks(devices)), _free("root", devices))


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
    try:
        fix = tuple(changes(profile["config"], profile["devices"]))
    except Ambiguous as several:
        return Finding(
            state=State.FAILED,
            detail=f"launches fail: {several}",
            advice="Remove all but one:"
            f" incus profile device remove {incus.target(name)} DEVICE",
        )
    if fix:
        verbs = {command[3] for command in fix}
        return Finding(
            state=State.FAILED,
            detail="launches fail: two of its devices do the same"
            if verbs == {"remove"}
            else "it is not as testbeds need it",
            fix=fix,
        )
    return good(summary(profile["config"]))


def _settings(target: str, config: Mapping[str, str]) -> Commands:
    lines = config.get("raw.lxc", "").splitlines()
    if RAW_LXC not in ("".join(line.split()) for line in lines):
        value = "\n".join([*lines, RAW_LXC])
        yield ("incus", "profile", "set", target, f"raw.lxc={value}")


def _network_changes(target: str, present: Devices, network: str) -> Commands:
    """Have one network card called host0, on this network."""
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
        # Incus takes one or the other.
        yield _device("remove", target, card)
        yield _device("add", target, card, "nic", *_words(wanted))
        return
    yield from _set(target, card, device, wanted)


def _named(devices: Devices) -> list[str]:
    """Return the cards called host0, one that setup has made last."""
    found = [
        name
        for name, device in devices.items()
        if _is_nic(device) and device.get("name") == NIC
    ]
    return sorted(found, key=lambda name: name == _OUR_CARD[0])


def _card(devices: Devices) -> str | None:
    """Return the card that testbeds use, or were meant to use."""
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
    """Have one root disk with these settings; ``name`` is for a new one."""
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
    """Remove the device that an earlier setup has added beside another.

    :raises Ambiguous: there is none, or that is not enough
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
    """Return a device name that is not taken."""
    candidates = (name, *(f"testbed-{name}{n}" for n in ("", *range(100))))
    return next(each for each in candidates if each not in devices)
