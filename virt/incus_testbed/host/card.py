# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the network card of testbeds in their profile.

By settings of this card, the bridge separates testbeds from each other.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from incus_testbed.host.devices import (
    Commands,
    Device,
    Devices,
    change,
    free_name,
    remove_double,
    set_missing,
    words,
)
from incus_testbed.host.requirement import Finding, State, failed, good, warning
from incus_testbed.incus.client import Incus

#: systemd-networkd sets up an interface of this name by itself.
NIC = "host0"

#: The card that setup made before it had more settings, with all its keys.
_OURS = ("eth0", {"type", "name", "network"})

#: The bridge passes no frame from one testbed to another, and none that has
#: another's MAC address or claims another's for this one (ARP, NDP).
_ALWAYS = ("security.port_isolation", "security.mac_filtering")
#: It also passes none with another's IPv4 address.  Incus then chooses the
#: address, so it has to be the DHCP server.
_WITH_DHCP = "security.ipv4_filtering"
#: This is not set here: with it, no testbed starts on a machine that has not
#: loaded the kernel module br_netfilter, which nothing else here needs.
_WITH_IPV6 = "security.ipv6_filtering"

#: What loads that module, now and when the machine starts; and what is there
#: then.
_LOAD = (
    "modprobe br_netfilter"
    " && echo br_netfilter >/etc/modules-load.d/incus-testbed.conf"
)
_IPV6_SWITCH = Path("/proc/sys/net/bridge/bridge-nf-call-ip6tables")

Network = Mapping[str, Any]


def separation(network: Network | None) -> dict[str, str]:
    """Return the settings that separate the testbeds of a bridge.

    ``network`` is one that Incus manages; None is a bridge of others.
    """
    keys = [*_ALWAYS, *([_WITH_DHCP] if network and _has_dhcp(network) else [])]
    return dict.fromkeys(keys, "true")


def check(
    incus: Incus,
    profile: str,
    present: Devices,
    network: Network | None,
    *,
    local: bool,
) -> Finding:
    """Check the card's settings; the fix adds those that are absent.

    If a setting is "false", an admin has chosen that.  ``local`` tells whether
    the server is this machine.
    """
    card = find(present)
    if card is None:
        return Finding(state=State.UNKNOWN, detail="the profile has no card")
    device = present[card]
    if not _is_bridged(device, network):
        return Finding(
            state=State.NOTE,
            detail=f"{card} is not on a bridge: its network has to separate"
            " testbeds from each other",
        )
    if device.get(_WITH_IPV6) == "true" and local and not _filters_ipv6():
        return failed(
            f"launches fail: {_WITH_IPV6} needs the module br_netfilter",
            advice=_LOAD,
        )
    return _of_bridged(incus.target(profile), card, device, network)


def _of_bridged(
    target: str, card: str, device: Device, network: Network | None
) -> Finding:
    wanted = separation(network)
    absent = {key: wanted[key] for key in wanted if key not in device}
    if absent:
        return failed(
            "a testbed reaches its neighbours, and can pass for another",
            fix=(change("set", target, card, *words(absent)),),
        )
    off = [key for key in wanted if device[key] != "true"]
    if off:
        return good(f"not used, as an admin has chosen: {' '.join(off)}")
    if network and _has_ipv6(network) and _WITH_IPV6 not in device:
        return warning(
            "a testbed can pass for another in IPv6",
            advice=f"{_LOAD}\n"
            f"incus profile device set {target} {card} {_WITH_IPV6}=true",
        )
    return good("testbeds don't reach each other, or pass for another")


def _filters_ipv6() -> bool:
    """Tell whether the kernel shows a bridge's frames to the IPv6 filter."""
    try:
        return _IPV6_SWITCH.read_text() == "1\n"
    except OSError:
        return False


def _is_bridged(card: Device, network: Network | None) -> bool:
    if network is None:
        return card.get("nictype") == "bridged"
    return bool(network["type"] == "bridge")


def _has_dhcp(network: Network) -> bool:
    config: Mapping[str, str] = network["config"]
    return (
        config.get("ipv4.address", "none") != "none"
        and config.get("ipv4.dhcp", "true") != "false"
    )


def _has_ipv6(network: Network) -> bool:
    return bool(network["config"].get("ipv6.address", "none") != "none")


def changes(
    target: str, present: Devices, network: str, new: Device
) -> Commands:
    """Yield the commands for exactly one card host0, on this network.

    ``new`` are further settings of a card that has to be made.
    """
    named = _named(present)
    if len(named) > 1:
        yield from remove_double(target, present, named, _OURS)
        return
    card = find(present)
    if not card:
        name = free_name("eth0", present)
        settings = {"name": NIC, "network": network, **new}
        yield change("add", target, name, "nic", *words(settings))
        return
    device = present[card]
    wanted = {"name": NIC}
    if network_of(device) != network:
        wanted["network"] = network
    if "parent" in device and "network" in wanted:
        # Incus accepts only one of parent and network.
        yield change("remove", target, card)
        settings = {**wanted, **new}
        yield change("add", target, card, "nic", *words(settings))
        return
    yield from set_missing(target, card, device, wanted)


def _named(devices: Devices) -> list[str]:
    """Return the cards called host0; if setup made one, it is the last."""
    found = [
        name
        for name, device in devices.items()
        if _is_nic(device) and device.get("name") == NIC
    ]
    return sorted(found, key=lambda name: name == _OURS[0])


def find(devices: Devices) -> str | None:
    """Return the card that testbeds use, or that is intended for them."""
    if named := _named(devices):
        return named[0]
    cards = [name for name, device in devices.items() if _is_nic(device)]
    if _OURS[0] in cards:
        return _OURS[0]
    nameless = [name for name in cards if "name" not in devices[name]]
    return nameless[0] if len(nameless) == 1 else None


def network_of(card: Device) -> str | None:
    """Return the network or bridge of a card."""
    return card.get("network") or card.get("parent")


def _is_nic(device: Device) -> bool:
    return device.get("type") == "nic"
