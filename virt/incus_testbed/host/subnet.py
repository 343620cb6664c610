# SPDX-License-Identifier: GPL-3.0-or-later
"""Find a subnet for the testbeds' bridge that nothing else here uses.

Incus can search for one itself, but it recognises used subnets by answers to
pings.  If those are filtered, it finds no free subnet.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    ip_interface,
)
from pathlib import Path
from typing import Any

from incus_testbed import errors
from incus_testbed.process import programs

#: Private address space (RFC 1918), in the order in which it is tried.
_SPACES = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
_PREFIX = 24


def free(name: str, taken: Iterable[IPv4Network]) -> IPv4Network:
    """Return a private /24 that overlaps nothing that is taken.

    The search starts at a place that depends on ``name``: the same arguments
    give the same result, and networks with different names rarely get the same
    subnet.

    :raises errors.Unsupported: everything is taken
    """
    occupied = list(taken)
    for space in map(IPv4Network, _SPACES):
        # A route for the whole space is common, and to try each /24 is slow.
        if any(space.subnet_of(other) for other in occupied):
            continue
        count = 1 << (_PREFIX - space.prefixlen)
        for step in range(count):
            number = (_seed(name) + step) % count
            candidate = _nth(space, number)
            if not any(candidate.overlaps(other) for other in occupied):
                return candidate
    raise errors.Unsupported(
        "No private subnet is free for the testbeds' bridge",
        resolution="Choose one yourself: incus network create"
        f" {name} ipv4.address=A.B.C.1/24 ipv4.nat=true ipv6.address=none",
    )


def unique_local(name: str) -> str:
    """Return the address and prefix of a bridge in a private IPv6 /64.

    It is a unique local address (RFC 4193).  It is pseudo-random, so we assume
    that it is free.
    """
    prefix = (0xFD << 120) | (_seed(name) << 88)
    return f"{IPv6Address(prefix | 1)}/64"


def _seed(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def _nth(space: IPv4Network, number: int) -> IPv4Network:
    address = int(space.network_address) + (number << (32 - _PREFIX))
    return IPv4Network((address, _PREFIX))


def taken_by_host() -> list[IPv4Network]:
    """Return the subnets of this machine, its routes and its DNS servers."""
    resolv_conf = Path("/etc/resolv.conf")
    text = resolv_conf.read_text() if resolv_conf.exists() else ""
    return [*routed(_routes("-4", "table", "all")), *name_servers(text)]


def has_only_ipv6() -> bool:
    """Tell whether this machine has a default route only for IPv6."""
    return bool(_routes("-6", "default")) and not _routes("-4", "default")


def _routes(family: str, *selector: str) -> list[dict[str, Any]]:
    shown = programs.run(
        ["ip", "-json", family, "route", "show", *selector], timeout=10
    )
    routes: list[dict[str, Any]] = json.loads(shown.stdout or b"[]")
    return routes


def addresses() -> list[str]:
    """Return the addresses that this machine has now, of both families."""
    shown = programs.run(["ip", "-json", "address", "show"], timeout=10)
    return [
        address["local"]
        for interface in json.loads(shown.stdout or b"[]")
        for address in interface.get("addr_info", ())
        if "local" in address
    ]


def around(addresses: Iterable[str]) -> list[IPv4Network]:
    """Return the subnets, of the size that free() looks for, of addresses.

    Names and IPv6 addresses are passed over.
    """
    return [
        IPv4Network(f"{address}/{_PREFIX}", strict=False)
        for address in addresses
        if re.fullmatch(r"[\d.]+", address, re.ASCII)
    ]


def routed(routes: Iterable[Mapping[str, Any]]) -> list[IPv4Network]:
    """Return the destinations of ip(8)'s routes, without default ones."""
    return [
        IPv4Network(route["dst"], strict=False)
        for route in routes
        if route["dst"] not in {"default", "0.0.0.0/0"}
    ]


def name_servers(resolv_conf: str) -> list[IPv4Network]:
    """Return the IPv4 name servers of a resolv.conf(5)."""
    found = re.findall(r"^nameserver\s+([\d.]+)\s*$", resolv_conf, re.MULTILINE)
    return [IPv4Network(IPv4Address(address)) for address in found]


def taken_by_incus(
    networks: Iterable[Mapping[str, Any]],
) -> list[IPv4Network]:
    """Return the subnets of all networks that Incus lists, up or down."""
    addresses = (
        network["config"].get("ipv4.address", "") for network in networks
    )
    interfaces = (ip_interface(value) for value in addresses if "/" in value)
    return [
        interface.network
        for interface in interfaces
        if isinstance(interface.network, IPv4Network)
    ]
