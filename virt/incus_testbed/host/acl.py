# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that the testbeds' bridge leads out, and not into the host.

An Incus network ACL says what testbeds may reach.  In an ACL, a rule that
refuses always precedes one that allows.  So that an admin can allow more, ours
allows everything but what is closed, and nothing is refused by a rule of its
own.  Whatever an ACL says, Incus lets DHCP, DNS and a few kinds of ICMP through
to the host.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_interface,
    ip_network,
)
from typing import Any
from urllib.parse import quote

from incus_testbed import errors
from incus_testbed.host import addresses
from incus_testbed.host.requirement import Finding, State, failed, good, warning
from incus_testbed.incus.client import Incus

#: Key of the network's configuration: "none" if the admin wants no ACL.
CHOICE = "user.incus-testbed.acl"
#: Key of the ACL's configuration: "closed" if private addresses are closed.
_PRIVATE_KEY = "user.incus-testbed.private"
#: By its description we know a rule as ours.  All other rules are the admin's.
_OURS = "incus-testbed: "

_EMPTY: Mapping[str, Any] = {"config": {}, "egress": [], "ingress": []}

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Rule = Mapping[str, str]

#: What can be a way out, and what of it is always closed: this machine, its
#: links (clouds tell a machine its secrets there), and broadcasts.
_WORLD = ("0.0.0.0/0", "2000::/3", "fc00::/7")
_NEVER = ("0.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "224.0.0.0/3")
#: Networks of a site: RFC 1918, RFC 6598, RFC 4193.
_PRIVATE = (
    *("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"),
    *("100.64.0.0/10", "fc00::/7"),
)


@dataclass(frozen=True, kw_only=True)
class Access:
    """What the admin wants testbeds to reach.

    ``private``: addresses of the site; None is what was chosen before, or
    else yes.  ``allowed``: addresses with TCP ports, although they are closed.
    """

    private: bool | None = None
    allowed: tuple[tuple[Address, int], ...] = ()


#: The choices that were made before.
AS_BEFORE = Access()


def check(
    incus: Incus,
    network: Mapping[str, Any] | None,
    access: Access,
    *,
    local: bool,
) -> Finding:
    """Check the network's ACL; the fix makes it as it should be.

    ``network`` is None if Incus does not manage it; ``local`` tells whether the
    server is this machine.
    """
    if network is None or network["type"] != "bridge":
        return Finding(
            state=State.NOTE,
            detail="the network is not a bridge that this Incus manages: its"
            " admin has to restrict what testbeds reach",
        )
    acl = _name(network["name"])
    used = [word for word in _words(network["config"], "security.acls") if word]
    if used and acl not in used:
        return _of_admin(f"has the ACL {' '.join(used)}", access)
    if network["config"].get(CHOICE) == "none":
        return _of_admin("has no ACL", access)
    driver = incus.server()["environment"].get("firewall", "nftables")
    if driver != "nftables":
        return warning(
            f"testbeds reach all of the host: Incus uses {driver}, and an ACL"
            " with ranges of addresses needs nftables",
            advice="apt install nftables, remove the rules of iptables-legacy,"
            " and systemctl restart incus",
        )
    machines = addresses.of_machines(incus, local=local)
    closed = list(_of_networks([network, *incus.networks()]))
    return _compare(
        incus, network, acl, closed, machines=machines, access=access
    )


def _of_admin(what: str, access: Access) -> Finding:
    """Return the finding about a network that an admin takes care of."""
    detail = f"the network {what}, as an admin has chosen"
    if access == AS_BEFORE:
        return good(detail)
    return failed(
        detail,
        advice="Change your ACL yourself: incus network acl edit NAME",
    )


def _compare(
    incus: Incus,
    network: Mapping[str, Any],
    name: str,
    closed: list[Network],
    *,
    machines: addresses.Machines,
    access: Access,
) -> Finding:
    """Compare the ACL, and its use by the network, with the wanted one."""
    acl = incus.target(name)
    fix: list[tuple[str, ...]] = []
    present = _EMPTY
    try:
        found = incus.network_acl(name)
    except errors.NotFound:
        fix.append(("incus", "network", "acl", "create", acl))
    else:
        if name in _words(network["config"], "security.acls"):
            present = found
        else:
            # Users of restricted projects can make ACLs, and then change them.
            fix.append(("incus", "network", "acl", "delete", acl))
            fix.append(("incus", "network", "acl", "create", acl))
    wanted = _wanted(network["config"], present, closed, machines, access)
    if any(present[part] != wanted[part] for part in wanted):
        project = quote(incus.current_project())
        path = incus.target(f"/1.0/network-acls/{name}?project={project}")
        data = f"--data={json.dumps(wanted)}"
        fix.append(("incus", "query", "--request=PUT", data, path))
    settings = {
        "security.acls": name,
        "security.acls.default.egress.action": "reject",
        "security.acls.default.ingress.action": "reject",
    }
    absent = [key for key in settings if key not in network["config"]]
    if absent:
        words = (f"{key}={settings[key]}" for key in absent)
        target = incus.target(network["name"])
        fix.append(("incus", "network", "set", target, *words))
    if fix:
        return failed(
            "testbeds can reach more than they should: this machine, its other"
            " networks, or addresses that clouds tell secrets at",
            fix=tuple(fix),
        )
    private = wanted["config"].get(_PRIVATE_KEY) != "closed"
    return good(
        "testbeds reach the internet"
        f" {'and' if private else 'but not'} private addresses"
    )


def _wanted(
    config: Mapping[str, str],
    present: Mapping[str, Any],
    closed: list[Network],
    machines: addresses.Machines,
    access: Access,
) -> dict[str, Any]:
    """Return the ACL's settings; rules and settings of the admin are kept."""
    bridges = [
        ip_interface(config[key])
        for key in ("ipv4.address", "ipv6.address")
        if config.get(key, "none") != "none"
    ]
    known = addresses.written(
        present["config"],
        machines,
        versions={each.version for each in bridges},
        closed=closed,
    )
    settings = {
        key: value
        for key, value in present["config"].items()
        if not addresses.is_key(key)
    }
    # A machine by itself knows all of its own at any time.
    settings.update(known if len(machines) > 1 else {})
    if access.private is not None:
        settings[_PRIVATE_KEY] = "open" if access.private else "closed"
    closed = [
        *closed,
        *map(ip_network, " ".join(known.values()).split()),
        *map(ip_network, _NEVER),
    ]
    if settings.get(_PRIVATE_KEY) == "closed":
        closed += map(ip_network, _PRIVATE)
    egress = [
        *(rule for rule in present["egress"] if not _is_ours(rule)),
        *(
            _rule(
                f"{_OURS}the way out",
                source=str(bridge.network),
                destination=_ranges(bridge.version, closed),
            )
            for bridge in bridges
        ),
    ]
    for address, port in access.allowed:
        rule = _rule(
            "allowed by setup",
            destination=str(address),
            protocol="tcp",
            destination_port=str(port),
        )
        if rule not in egress:
            egress.append(rule)
    ingress = [
        *(rule for rule in present["ingress"] if not _is_ours(rule)),
        *(
            _rule(f"{_OURS}from this machine", source=str(bridge.ip))
            for bridge in bridges
        ),
    ]
    return {"config": settings, "egress": egress, "ingress": ingress}


def _rule(description: str, **properties: str) -> Rule:
    return {
        "action": "allow",
        "description": description,
        "state": "enabled",
        **properties,
    }


def _is_ours(rule: Rule) -> bool:
    return rule.get("description", "").startswith(_OURS)


def _name(network: str) -> str:
    """Return the name of a network's ACL: letters, digits and dashes."""
    return "testbeds-" + re.sub(r"[^A-Za-z0-9]", "-", network)


def _words(config: Mapping[str, str], key: str) -> list[str]:
    return [word.strip() for word in config.get(key, "").split(",")]


def _of_networks(networks: Iterable[Mapping[str, Any]]) -> Iterator[Network]:
    """Yield the subnets of Incus' own networks: other guests are there."""
    for network in networks:
        for key in ("ipv4.address", "ipv6.address"):
            if "/" in (value := network["config"].get(key, "")):
                yield ip_interface(value).network


def _ranges(version: int, closed: Iterable[Network]) -> str:
    """Return the world without what is closed, as an ACL's ranges."""
    world = [net for net in map(ip_network, _WORLD) if net.version == version]
    bounds = sorted(
        (int(net.network_address), int(net.broadcast_address))
        for net in closed
        if net.version == version
    )
    address = IPv4Address if version == 4 else IPv6Address  # noqa: PLR2004
    found = []
    for net in world:
        start, last = int(net.network_address), int(net.broadcast_address)
        for low, high in bounds:
            if start < low <= last:
                found.append(f"{address(start)}-{address(low - 1)}")
            if low <= last:
                start = max(start, high + 1)
        if start <= last:
            found.append(f"{address(start)}-{address(last)}")
    return ",".join(found)
