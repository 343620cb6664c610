# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose the program that configures a guest's network, and set it up."""

import re
from collections.abc import Iterator
from typing import Literal

from incus_testbed import errors
from incus_testbed.customise import overlay, units
from incus_testbed.system.entry import Entry
from incus_testbed.system.facts import Facts

#: The one program that configures the NIC.  ``ifupdown-own`` is an ifupdown
#: that the image itself has configured for our NIC.  dhcpcd as a separate
#: service is not among them: it ignores virtual NICs like ours.
Configurator = Literal["networkd", "networkmanager", "ifupdown", "ifupdown-own"]

#: The NIC's name in a container, which the profile sets.
NIC = "host0"

#: systemd's own configuration of it, which every networkd has.
_NETWORKD_DEFAULT = f"80-container-{NIC}.network"

_STANZA = f"auto {NIC}\niface {NIC} inet dhcp\n"
_LOOPBACK = "auto lo\niface lo inet loopback\n"
_STUB = "../run/systemd/resolve/stub-resolv.conf"

#: Characters of a NIC's name: Linux's IFNAMSIZ without the final NUL.
_LONGEST_NAME = 15

#: Names that the kernel or udev gives to hardware NICs; no container has one.
_HARDWARE = re.compile(r"(eth|en|wl|ww|sl|ib|usb)[a-z0-9]*\d[a-z0-9]*")


def configurator(facts: Facts) -> Configurator:
    """Return the one program that configures the network.

    If the image has enabled a program that works with our NIC, it is kept.
    Otherwise systemd-networkd is used if present, otherwise ifupdown.

    :raises errors.BadImage: the image has no suitable program
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
    """Yield the files that the network needs and the image lacks."""
    chosen = configurator(facts)
    if chosen == "networkd":
        if not facts.networkd.enabled:
            yield from units.enabled(facts, "systemd-networkd.service")
        if facts.dhcpcd.enabled:
            yield units.masked("dhcpcd.service")
        if facts.network_manager.enabled:
            yield overlay.entry(
                "networkmanager-unmanaged.conf",
                "etc/NetworkManager/conf.d/zz-incus-testbed.conf",
            )
    elif facts.init == "systemd" and facts.networkd.present:
        # netplan may start networkd, whose own file is for our NIC.
        yield units.masked(_NETWORKD_DEFAULT, folder="network")
    if chosen == "ifupdown":
        yield _appended(
            "etc/network/interfaces",
            facts.interfaces_file or _LOOPBACK,
            _STANZA,
        )
    if facts.ifupdown and (idle := _not_for_ifupdown(facts, chosen)):
        yield _without(facts, idle)
    if facts.cloud_init:
        yield overlay.entry(
            "cloud-init.cfg", "etc/cloud/cloud.cfg.d/zz-incus-testbed.cfg"
        )
    yield from _resolver(facts, chosen)


def _resolver(facts: Facts, chosen: Configurator) -> Iterator[Entry]:
    """Yield the files that make /etc/resolv.conf correct.

    The image's own file is kept only if the image configures its network
    itself.  Otherwise it may be a leftover that names DNS servers of the
    machine that built the image.
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
        yield overlay.entry("resolv.conf", "etc/resolv.conf")
    if chosen == "networkd" and not resolved:
        yield from overlay.entries(
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
    """Return the NICs that ifupdown must ignore.

    They are absent in a container, or another program configures them.
    """
    return sorted(
        name
        for name in _automatic(facts.interfaces)
        if _HARDWARE.fullmatch(name)
        or (name == NIC and not chosen.startswith("ifupdown"))
    )


def _without(facts: Facts, idle: list[str]) -> Entry:
    """Return what makes ifupdown ignore some NICs at boot.

    Its init script reads EXCLUDE_INTERFACES.  In some releases ifup reads it
    too, but from memory that it has freed (bullseye), so systemd's unit gets
    options.
    """
    if facts.init != "systemd":
        return _appended(
            "etc/default/networking",
            facts.ifupdown_defaults,
            f'EXCLUDE_INTERFACES="{" ".join(idle)}"\n',
        )
    options = " ".join(f"--exclude={name}" for name in idle)
    return Entry(
        path="etc/systemd/system/networking.service.d/zz-incus-testbed.conf",
        kind="file",
        content="# Added by incus-testbed\n[Service]\nExecStart=\n"
        f"ExecStart=/sbin/ifup -a --read-environment {options}\n".encode(),
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
