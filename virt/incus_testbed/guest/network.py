# SPDX-License-Identifier: GPL-3.0-or-later
"""Who configures a guest's network, and what that needs in the image."""

import re
from collections.abc import Iterator
from typing import Literal

from incus_testbed import errors
from incus_testbed.guest import files, units
from incus_testbed.image.entry import Entry
from incus_testbed.image.facts import Facts

#: The one program that asks for an address; ``ifupdown-own`` is an ifupdown
#: that the image has set up for our NIC itself.  dhcpcd as a service of its
#: own is none of them: it passes over a NIC like ours, which is virtual.
Configurator = Literal["networkd", "networkmanager", "ifupdown", "ifupdown-own"]

#: The NIC's name in a container, as the profile has it.
NIC = "host0"

_STANZA = f"auto {NIC}\niface {NIC} inet dhcp\n"
_LOOPBACK = "auto lo\niface lo inet loopback\n"
_STUB = "../run/systemd/resolve/stub-resolv.conf"

#: Characters of a NIC's name: Linux's IFNAMSIZ, less the end marker.
_LONGEST_NAME = 15

#: What the kernel or udev calls a NIC that is hardware: never in a container.
_HARDWARE = re.compile(r"(eth|en|wl|ww|sl|ib|usb)[a-z0-9]*\d[a-z0-9]*")


def configurator(facts: Facts) -> Configurator:
    """Return who shall configure the network: one program, never two.

    What the image has set up and what works with our NIC stays; else it is
    systemd-networkd where there is one, else ifupdown.

    :raises errors.BadImage: the image has nothing that can
    """
    systemd = facts.init == "systemd"
    if systemd and facts.networkd.enabled:
        return "networkd"
    if facts.network_manager.enabled:
        return "networkmanager"
    if facts.ifupdown and NIC in _automatic(facts.interfaces):
        return "ifupdown-own"
    if systemd and facts.networkd.present:
        return "networkd"
    if facts.ifupdown and facts.dhcp_client:
        return "ifupdown"
    raise errors.BadImage(
        "Nothing in the image can configure the network",
        resolution=(
            "Add the package ifupdown and a DHCP client, such as "
            "dhcpcd-base or isc-dhcp-client, to the image."
        ),
    )


def entries(facts: Facts) -> Iterator[Entry]:
    """Yield what the network needs beyond what the image has."""
    chosen = configurator(facts)
    if chosen == "networkd":
        if not facts.networkd.enabled:
            yield from units.enabled(facts, "systemd-networkd.service")
        if facts.dhcpcd.enabled:
            yield units.masked("dhcpcd.service")
        if facts.network_manager.enabled:
            yield files.entry(
                "networkmanager-unmanaged.conf",
                "etc/NetworkManager/conf.d/zz-incus-testbed.conf",
            )
    if chosen == "ifupdown":
        yield _appended(
            "etc/network/interfaces",
            facts.interfaces_file or _LOOPBACK,
            _STANZA,
        )
    if facts.ifupdown and (idle := _not_for_ifupdown(facts, chosen)):
        yield _appended(
            "etc/default/networking",
            facts.ifupdown_defaults,
            f'EXCLUDE_INTERFACES="{" ".join(idle)}"\n',
        )
    yield from _resolver(facts, chosen)


def _resolver(facts: Facts, chosen: Configurator) -> Iterator[Entry]:
    """Yield what makes /etc/resolv.conf right.

    An image's own file stays only with its own network: the one that a
    builder leaves behind names the servers of another machine.
    """
    resolved = facts.init == "systemd" and (
        facts.resolved.enabled
        or (facts.resolved.present and chosen == "networkd")
    )
    if resolved and not facts.resolved.enabled:
        yield from units.enabled(facts, "systemd-resolved.service")
    managed = {
        "file": facts.resolvconf
        or chosen in {"networkmanager", "ifupdown-own"},
        "resolved": resolved,
        "resolvconf": facts.resolvconf,
        "networkmanager": chosen == "networkmanager",
        "other": True,
    }[facts.resolver]
    if resolved and facts.resolver == "file":
        yield Entry(path="etc/resolv.conf", kind="symlink", target=_STUB)
    elif not managed:
        yield files.entry("resolv.conf", "etc/resolv.conf")
    if chosen == "networkd" and not resolved:
        yield from files.entries(
            {
                "resolv-conf": "usr/local/lib/incus-testbed/resolv-conf",
                "incus-testbed-resolv.service": (
                    "etc/systemd/system/incus-testbed-resolv.service"
                ),
            }
        )
        for wanting in ("systemd-networkd.service", "network-online.target"):
            yield units.wanted(wanting, "incus-testbed-resolv.service")


def _not_for_ifupdown(facts: Facts, chosen: Configurator) -> list[str]:
    """Return the NICs that ifupdown must leave alone: absent, or taken."""
    return sorted(
        name
        for name in _automatic(facts.interfaces)
        if _HARDWARE.fullmatch(name)
        or (name == NIC and not chosen.startswith("ifupdown"))
    )


def _automatic(interfaces: str) -> set[str]:
    """Return the NICs that ifupdown brings up at boot."""
    return {
        name
        for line in interfaces.splitlines()
        if (words := line.split()) and words[0] in {"auto", "allow-auto"}
        for name in words[1:]
        if len(name) <= _LONGEST_NAME
    }


def _appended(path: str, text: str, more: str) -> Entry:
    separator = "" if not text or text.endswith("\n") else "\n"
    content = f"{text}{separator}\n# Added by incus-testbed\n{more}"
    return Entry(path=path, kind="file", content=content.lstrip().encode())
