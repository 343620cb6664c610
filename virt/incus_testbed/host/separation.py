# SPDX-License-Identifier: GPL-3.0-or-later
"""List what keeps testbeds apart, and away from this machine.

Testbeds also run without it, as they do on machines of earlier setups.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from incus_testbed import errors
from incus_testbed.host import (
    acl,
    card,
    limits,
    network,
    pool,
    profile,
    quotas,
    restricted,
    subvolumes,
)
from incus_testbed.host.requirement import Finding, Requirement, State
from incus_testbed.incus.client import Incus


def requirements(
    server: Incus,
    project: Incus,
    profile_name: str,
    *,
    network_name: str,
    pool_name: str,
    access: acl.Access,
    local: bool,
) -> Iterator[Requirement]:
    """Yield the requirements of a profile and its network, in order.

    ``server`` is a client of the project that has the network, ``project`` one
    of the project that has the profile.  ``local``: the server is this machine.
    What Incus keeps from this user is UNKNOWN: it is the admin's.
    """

    def bridge() -> Mapping[str, Any] | None:
        return network.managed(server, network_name, local=local)

    def need(name: str, check: Callable[[], Finding]) -> Requirement:
        return Requirement(
            name, partial(_unless_confined, check), asks_server=True
        )

    yield need(
        "network access",
        lambda: acl.check(server, bridge(), access, local=local),
    )
    yield need(
        "neighbours",
        lambda: card.check(
            project,
            profile_name,
            profile.devices_of(project, profile_name),
            bridge(),
            local=local,
        ),
    )
    yield need(
        "limits",
        lambda: limits.check(
            project,
            profile_name,
            disk=pool.share(server, pool_name, local=local),
        ),
    )
    yield need(
        "subvolumes",
        lambda: subvolumes.check(
            project,
            profile_name,
            driver=pool.driver_of(server, pool_name, local=local),
        ),
    )
    # A restricted project forbids security.idmap.size.  Without it a testbed
    # has too few ids for the user namespaces of the programs in it.
    if local and not restricted.forbids_raw(project):
        yield need(
            "ids of testbeds", partial(limits.check_ids, project, profile_name)
        )
    # The last one: the others keep testbeds apart, this one makes them fast.
    if local:
        yield need("disk quotas", lambda: quotas.check(server, pool_name))


def _unless_confined(check: Callable[[], Finding]) -> Finding:
    """Return a check's finding; UNKNOWN if Incus refuses it to this user."""
    try:
        return check()
    except errors.Denied:
        return Finding(
            state=State.UNKNOWN, detail="only the admin of Incus can see it"
        )
