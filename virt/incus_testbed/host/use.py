# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out which network, storage pool and profiles are in use."""

from incus_testbed.host import profile, restricted
from incus_testbed.host.names import Names
from incus_testbed.image import profiles
from incus_testbed.incus.client import Incus


def names_in_use(incus: Incus, profile_name: str | None = None) -> Names:
    """Return the names of the network and pool that a profile refers to.

    If it refers to none, return the names that setup() uses or, in a
    restricted project, those that the admin has chosen there.  The default
    profile is the one that the project's images get.
    """
    name = profile_name or profiles.chosen(incus)
    devices = profile.devices_of(incus, name)
    if not devices and restricted.is_restricted(incus):
        devices = profile.devices_of(incus, restricted.PROFILE)
    return Names(
        network=profile.network_of(devices) or Names.network,
        pool=profile.pool_of(devices) or Names.pool,
        profile=name,
    )
