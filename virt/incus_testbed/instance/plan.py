# SPDX-License-Identifier: GPL-3.0-or-later
"""Plan the launch of an image: its configuration and devices."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from incus_testbed import errors
from incus_testbed.customise import last_file
from incus_testbed.customise.last_file import LastFile
from incus_testbed.incus import records
from incus_testbed.incus.client import Incus
from incus_testbed.system import architecture

#: The option of incus launch for a virtual machine.  It decides the kind if
#: the image is on another server, so that we can't look it up.
_VM_OPTION = "--vm"

#: Options of incus launch that may bring a network card, in all their forms.
_CARDS = re.compile(r"-[ehqv]*[pn]|--profile\b|--network\b")
_AGENT_DRIVE = {"agent": {"type": "disk", "source": "agent:config"}}


@dataclass(frozen=True, kw_only=True)
class Plan:
    """An instance's configuration and devices.

    ``vm``: it is a virtual machine.  ``fingerprint`` and ``architecture``, as
    Incus calls it, are its image's, if that was found, and so is ``last_file``,
    if the image of a container tells it.  Limits are not here: an admin sets
    them in the profile (host/profile.py).
    """

    vm: bool
    fingerprint: str = field(default="", compare=False)
    architecture: str = field(default="", compare=False)
    last_file: LastFile | None = field(default=None, compare=False)
    config: Mapping[str, str] = field(default_factory=dict)
    devices: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        incus: Incus,
        image: str,
        arguments: Sequence[str],
        *,
        network: bool = True,
    ) -> Self:
        """Look the image up; ``arguments`` are for incus launch.

        Without ``network``, the cards of its profiles are left out.

        If the image is not found, incus launch decides what to do: the image
        may be on another server.
        """
        try:
            found = incus.image(image)
        except errors.NotFound:
            return cls(
                vm=_VM_OPTION in arguments,
                devices={}
                if network
                else _without_cards(incus, ["default"], arguments),
            )
        cards = (
            {} if network else _without_cards(incus, found.profiles, arguments)
        )
        if found.kind != records.MACHINE:
            return cls(
                vm=False,
                fingerprint=found.fingerprint,
                architecture=found.architecture,
                last_file=last_file.of(found.properties, found.created),
                devices=cards,
            )
        # Imported here: most testbeds are containers, and start faster so.
        from incus_testbed.customise import vm  # noqa: PLC0415

        cdrom = found.properties.get(vm.CDROM) == "true"
        return cls(
            vm=True,
            fingerprint=found.fingerprint,
            architecture=found.architecture,
            config=vm.configuration(found.properties),
            devices={**cards, **(_AGENT_DRIVE if cdrom else {})},
        )

    def is_outdated(self, incus: Incus, image: str) -> bool:
        """Tell whether the name of the image names another one by now."""
        try:
            now = incus.image(image).fingerprint
        except errors.NotFound:
            return False
        return bool(self.fingerprint) and now != self.fingerprint

    def check_architecture(self, incus: Incus, image: str) -> None:
        """Refuse an image that the server can't run.

        :raises errors.Unsupported: says where it could run
        """
        there = incus.supported()
        able = there.machines if self.vm else there.containers
        if not self.architecture or self.architecture in able:
            return
        name = architecture.debian_name(self.architecture)
        raise errors.Unsupported(
            f"The image {image} is for {name}, which this server can't run",
            details=architecture.runs(there, vm=self.vm),
            resolution=f"{architecture.where(name, vm=self.vm)}: use such a"
            " server by --remote=NAME, or another image.",
        )


def _without_cards(
    incus: Incus, profiles: Sequence[str], arguments: Sequence[str]
) -> dict[str, dict[str, str]]:
    """Return what takes the place of the network cards of some profiles.

    :raises errors.Unsupported: ``arguments`` may bring other cards
    """
    for argument in arguments:
        if _CARDS.match(argument):
            raise errors.Unsupported(
                f"An instance without a network card can't have {argument}",
                resolution=f"Leave out {argument}, or --network none.",
            )
    return {
        name: {"type": "none"}
        for profile in profiles
        for name, device in incus.profile(profile)["devices"].items()
        if device.get("type") == "nic"
    }
