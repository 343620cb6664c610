# SPDX-License-Identifier: GPL-3.0-or-later
"""A subnet for the testbeds' bridge that nothing else here uses.

Incus can look for one itself, but it tells a used subnet by answers to pings:
where those are filtered it finds none.
"""

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_interface
from pathlib import Path
from typing import Any

from incus_testbed import errors, process

#: Private address space (RFC 1918), in the order in which it is tried.
_SPACES = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")
_PREFIX = 24


def free(name: str, taken: Iterable[IPv4Network]) -> IPv4Network:
    """Return a private /24 that overlaps nothing that is taken.

    Where the search starts depends on ``name``: the same question has the
    same answer, and networks of different names seldom compete.

    :raises errors.Unsupported: everything is taken
    """
    occupied = list(taken)
    for space in map(IPv4Network, _SPACES):
        # One route for all of it is common, and trying each /24 is not quick.
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

    It is a unique local address (RFC 4193): made up, hence free.
    """
    prefix = (0xFD << 120) | (_seed(name) << 88)
    return f"{IPv6Address(prefix | 1)}/64"


def _seed(name: str) -> int:
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")


def _nth(space: IPv4Network, number: int) -> IPv4Network:
    address = int(space.network_address) + (number << (32 - _PREFIX))
    return IPv4Network((address, _PREFIX))


def taken_by_host() -> list[IPv4Network]:
    """Return where this machine has addresses, routes and name servers."""
    resolv_conf = Path("/etc/resolv.conf")
    text = resolv_conf.read_text() if resolv_conf.exists() else ""
    return [*routed(_routes("-4", "table", "all")), *name_servers(text)]


def has_only_ipv6() -> bool:
    """Tell whether this machine reaches others by IPv6 alone."""
    return bool(_routes("-6", "default")) and not _routes("-4", "default")


def _routes(family: str, *selector: str) -> list[dict[str, Any]]:
    shown = process.run(
        ["ip", "-json", family, "route", "show", *selector], timeout=10
    )
    routes: list[dict[str, Any]] = json.loads(shown.stdout or b"[]")
    return routes


def routed(routes: Iterable[Mapping[str, Any]]) -> list[IPv4Network]:
    """Return where routes lead, as ip(8) lists them, but for default ones."""
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
    """Return the subnets of networks as Incus lists them, up or not."""
    addresses = (
        network["config"].get("ipv4.address", "") for network in networks
    )
    interfaces = (ip_interface(value) for value in addresses if "/" in value)
    return [
        interface.network
        for interface in interfaces
        if isinstance(interface.network, IPv4Network)
    ]
