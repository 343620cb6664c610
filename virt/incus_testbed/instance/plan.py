# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan the launch of an image: its configuration and devices."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from incus_testbed import errors
from incus_testbed.customise import vm
from incus_testbed.incus.client import Incus

_VM = "virtual-machine"
#: The option of incus launch for a virtual machine.  It decides the kind if
#: the image is on another server, so that we can't look it up.
_VM_OPTION = "--vm"

_AGENT_DRIVE = {"agent": {"type": "disk", "source": "agent:config"}}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An instance's configuration and devices.

    ``vm``: it is a virtual machine.  Limits are not here: an admin sets
    them in the profile (host/profile.py).
    """

    vm: bool
    config: Mapping[str, str] = field(default_factory=dict)
    devices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def of(cls, incus: Incus, image: str, arguments: Sequence[str]) -> Self:
        """Look the image up; ``arguments`` are for incus launch.

        If the image is not found, incus launch decides what to do: the image
        may be on another server.
        """
        try:
            found = incus.image(image)
        except errors.NotFound:
            return cls(vm=_VM_OPTION in arguments)
        if found.kind != _VM:
            return cls(vm=False)
        cdrom = found.properties.get(vm.CDROM) == "true"
        return cls(
            vm=True,
            config=vm.configuration(found.properties),
            devices=_AGENT_DRIVE if cdrom else {},
        )
