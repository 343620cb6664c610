# SPDX-License-Identifier: GPL-3.0-or-later
"""Where guests reach this machine."""

from incus_testbed import errors
from incus_testbed.host import profile
from incus_testbed.image import profiles
from incus_testbed.incus.client import Incus


def address(incus: Incus) -> str | None:
    """Return this machine's address on the guests' network.

    None if it is not known: a restricted user may not see networks.
    """
    if not incus.is_local():
        return None
    devices = profile.devices_of(incus, profiles.chosen(incus))
    name = profile.network_of(devices)
    try:
        networks = incus.networks()
    except errors.TestbedError:
        return None
    for network in networks:
        for key in ("ipv4.address", "ipv6.address"):
            found = network["config"].get(key, "none")
            if network["name"] == name and "/" in found:
                return str(found.partition("/")[0])
    return None
