# SPDX-License-Identifier: GPL-3.0-or-later
"""What Incus is told of an image that was converted."""

from incus_testbed.guest import machine as guest_machine
from incus_testbed.image import architecture, labels, metadata
from incus_testbed.image.convert import Conversion
from incus_testbed.image.labels import Labels


def metadata_tar(
    conversion: Conversion,
    alias: str,
    label: Labels,
    *,
    profile: str,
    date: int,
) -> bytes:
    """Return the metadata of an image that this process makes now."""
    facts, machine = conversion.facts, conversion.machine
    debian_name = architecture.of(facts, machine, label)
    vendor = label.vendor or (facts.vendor if facts else "")
    codename = label.codename or (facts.codename if facts else "")
    return metadata.metadata_tar(
        architecture=debian_name,
        creation_date=date,
        profile=profile,
        description=label.description
        or " ".join(filter(None, (vendor, codename, debian_name)))
        + f" ({alias})",
        vendor=vendor,
        codename=codename,
        artifact_id=label.artifact_id or alias.removeprefix("artifact/"),
        properties={
            **labels.properties(
                alias,
                source=conversion.sha256,
                date=date,
                evictable=label.evictable,
                unpacked=conversion.used_size,
            ),
            **(guest_machine.properties(machine) if machine else {}),
        },
        # In a virtual machine it would be the agent that does it: too late.
        emptied=facts.machine_ids if facts and not machine else (),
    )
