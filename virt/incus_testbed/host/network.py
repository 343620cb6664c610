# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the bridge to which all testbeds are connected."""

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network
from typing import Any

from incus_testbed.host import addresses, cluster, subnet
from incus_testbed.host.devices import words
from incus_testbed.host.requirement import Finding, State, failed, good
from incus_testbed.incus.client import Incus

#: States of a network that not all members of a cluster have made.
_UNFINISHED = ("Pending", "Errored")


def check(incus: Incus, name: str, *, local: bool) -> Finding:
    """Check the managed network; the fix makes one if there is none.

    ``local`` tells whether the server is this machine.
    """
    networks = incus.networks()
    for network in networks:
        if network["name"] == name and network["managed"]:
            if network["status"] in _UNFINISHED and incus.members():
                present = network["locations"]
                return _creation(
                    incus, networks, name, local=local, present=present
                )
            return _of_managed(incus, network)
        if network["name"] == name and network.get("used_by"):
            return Finding(
                state=State.NOTE,
                detail="a bridge that this Incus does not manage: guests get"
                " their addresses from elsewhere",
            )
        if network["name"] == name:
            return failed(
                "an interface that this Incus does not manage",
                advice="Choose another name: incus-testbed setup --network"
                f" NAME. If nothing uses it: ip link delete {name}",
            )
    return _creation(incus, networks, name, local=local)


def _creation(
    incus: Incus,
    networks: Iterable[Mapping[str, Any]],
    name: str,
    *,
    local: bool,
    present: Sequence[str] = (),
) -> Finding:
    """Return a finding whose fix makes the bridge, or what it lacks."""
    settings = _settings(incus, networks, name, local=local)
    return cluster.creation(
        incus,
        ("incus", "network", "create", incus.target(name)),
        everywhere=tuple(words(settings)),
        present=present,
    )


def managed(
    incus: Incus, name: str, *, local: bool
) -> Mapping[str, Any] | None:
    """Return a network that this Incus manages, as it describes it.

    If there is none of that name, return the one that the fix of check() makes.
    None stands for an interface that Incus does not manage.
    """
    networks = incus.networks()
    for network in networks:
        if network["name"] == name:
            return network if network["managed"] else None
    config = _settings(incus, networks, name, local=local)
    return {"name": name, "type": "bridge", "config": config}


def _settings(
    incus: Incus,
    networks: Iterable[Mapping[str, Any]],
    name: str,
    *,
    local: bool,
) -> dict[str, str]:
    """Return the settings of a new bridge."""
    taken = subnet.taken_by_incus(networks)
    if incus.members():
        machines = addresses.of_machines(incus, local=local)
        taken += subnet.around(addresses.every(machines))
    if local:
        taken += subnet.taken_by_host()
    settings = _addresses(name, taken)
    if local and subnet.has_only_ipv6():
        settings["ipv6.address"] = subnet.unique_local(name)
        settings["ipv6.nat"] = "true"
    return settings


def _addresses(name: str, taken: list[IPv4Network]) -> dict[str, str]:
    """Return the settings of a bridge with only IPv4.

    IPv4 is enough for guests if the machine has it: IPv6 without a route
    would cause delays.
    """
    network = subnet.free(name, taken)
    return {
        "ipv4.address": f"{network[1]}/{network.prefixlen}",
        "ipv4.nat": "true",
        "ipv6.address": "none",
    }


def _of_managed(incus: Incus, network: Mapping[str, Any]) -> Finding:
    name, config = network["name"], network["config"]
    if network["status"] != "Created":
        return failed(
            f"its state is {network['status']}",
            advice=f"See why: incus network info {incus.target(name)}",
        )
    addresses = [
        config[key]
        for key in ("ipv4.address", "ipv6.address")
        if config.get(key, "none") != "none"
    ]
    if network["type"] == "bridge" and not addresses:
        return failed(
            "it has no address, so guests get none",
            advice=f"Give it one: incus network set {incus.target(name)}"
            " ipv4.address=A.B.C.1/24 ipv4.nat=true",
        )
    return good(" ".join([network["type"], *addresses]))
