# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of the network, storage pool and profiles of testbeds."""

from dataclasses import dataclass

from incus_testbed.image import profiles


@dataclass(frozen=True, kw_only=True)
class Names:
    """Names of the network, pool and profiles that setup makes."""

    network: str = "debusinebr0"
    pool: str = "default"
    profile: str = profiles.USUAL

    @property
    def vm_profile(self) -> str:
        """The second profile of virtual machines."""
        return profiles.for_vms(self.profile)
