# SPDX-License-Identifier: GPL-3.0-or-later
"""List what keeps testbeds from each other, and from the host.

Testbeds also run without it, as they do on machines of earlier setups.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from incus_testbed import errors
from incus_testbed.host import acl, card, limits, pool, profile
from incus_testbed.host import network as host_network
from incus_testbed.host.acl import Access
from incus_testbed.host.requirement import Finding, Requirement, State
from incus_testbed.incus.client import Incus


def requirements(
    incus: Incus,
    *,
    network: str,
    storage: str,
    profile_name: str,
    access: Access,
    local: bool,
) -> Iterator[Requirement]:
    """Yield the requirements; ``local``: the server is this machine."""

    def bridge() -> Mapping[str, Any] | None:
        return host_network.managed(incus, network, local=local)

    def need(name: str, check: Callable[[], Finding]) -> Requirement:
        return Requirement(name, lambda: _if_allowed(check), asks_server=True)

    yield need(
        "network access",
        lambda: acl.check(incus, bridge(), access, local=local),
    )
    yield need(
        "neighbours",
        lambda: card.check(
            incus,
            profile_name,
            profile.devices_of(incus, profile_name),
            bridge(),
            local=local,
        ),
    )
    yield need(
        "limits",
        lambda: limits.check(
            incus,
            profile_name,
            disk=pool.share(incus, storage, local=local),
        ),
    )
    if local:
        yield need(
            "ids of testbeds", partial(limits.check_ids, incus, profile_name)
        )


def _if_allowed(check: Callable[[], Finding]) -> Finding:
    """Return a check's finding; UNKNOWN if Incus restricts this user."""
    try:
        return check()
    except errors.Denied as error:
        return Finding(state=State.UNKNOWN, detail=error.brief)
