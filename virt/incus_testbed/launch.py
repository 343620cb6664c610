# SPDX-License-Identifier: GPL-3.0-or-later
"""What a launch of an image takes beside the image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from incus_testbed import errors
from incus_testbed.client import Incus
from incus_testbed.guest import machine

_MACHINE = "virtual-machine"
#: Of incus launch, for images that another server tells the kind of.
_MACHINE_OPTION = "--vm"

#: Incus' own requirement, of images that have no other way to get the agent.
_CDROM = "requirements.cdrom_agent"
_AGENT_DRIVE = {"agent": {"type": "disk", "source": "agent:config"}}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Configuration and devices for an instance, and if it is a machine.

    Limits are the profile's (host/profile.py), for an admin to set.
    """

    machine: bool
    config: Mapping[str, str] = field(default_factory=dict)
    devices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, incus: Incus, image: str, arguments: Sequence[str]) -> Self:
        """Look the image up; ``arguments`` are for incus launch.

        An image that isn't there is incus launch's to deal with: it may be
        another server's.
        """
        try:
            found = incus.image(image)
        except errors.NotFound:
            return cls(machine=_MACHINE_OPTION in arguments)
        if found.kind != _MACHINE:
            return cls(machine=False)
        cdrom = found.properties.get(_CDROM) == "true"
        return cls(
            machine=True,
            config=machine.configuration(found.properties),
            devices=_AGENT_DRIVE if cdrom else {},
        )
