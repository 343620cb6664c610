# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the addresses of the server's machines, which are closed to testbeds.

In a cluster, a member can't see all addresses of another.  So each writes its
own down, in the ACL that all share, when setup runs on it.
"""

import itertools
from collections.abc import Collection, Mapping, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from incus_testbed.host import cluster, subnet
from incus_testbed.incus.client import Incus

#: Begins keys of the ACL's configuration; a dot and a member's name follow.
_KEY = "user.incus-testbed.addresses"

#: Addresses by the member's name.  The first member is the one that answers;
#: its name is empty without a cluster.
Machines = Mapping[str, Sequence[str]]


def of_machines(incus: Incus, *, local: bool) -> Machines:
    """Return the addresses of the server's machines, as they are now.

    If the one that answers is not this machine, which ``local`` tells, those of
    a VPN may be missing.  Of each other, only the one for the cluster is known.
    """
    here = (
        subnet.addresses()
        if local
        else [
            address
            for network in incus.networks()
            for address in incus.network_addresses(network["name"])
        ]
    )
    found = {cluster.name_of(incus): here}
    for member in incus.members():
        found.setdefault(member.name, []).append(member.host)
    return found


def written(
    config: Mapping[str, str],
    machines: Machines,
    *,
    versions: Collection[int],
    closed: Collection[IPv4Network | IPv6Network],
) -> dict[str, str]:
    """Return the addresses to write down, by the key of the configuration.

    ``config`` has what was written before: it counts for the machines that do
    not answer now.  ``versions`` are those of IP that testbeds have.  What is
    in a network that is ``closed`` anyway is left out.
    """

    def matters(text: str) -> bool:
        try:
            address = ip_address(text)
        except ValueError:  # a name, or what an admin has written there
            return False
        return (
            address.version in versions
            and not address.is_loopback
            and not address.is_link_local
            and not any(
                address in network
                for network in closed
                if network.version == address.version
            )
        )

    here = next(iter(machines))
    found = {}
    for name, now in machines.items():
        key = f"{_KEY}.{name}"
        before = config.get(key, "").split() if name != here else []
        found[key] = " ".join(sorted(filter(matters, {*now, *before})))
    return found


def is_key(key: str) -> bool:
    """Tell whether a key of an ACL's configuration is for addresses."""
    return key.startswith(f"{_KEY}.")


def every(machines: Machines) -> list[str]:
    """Return the addresses of all machines together."""
    return list(itertools.chain(*machines.values()))
