# SPDX-License-Identifier: GPL-3.0-or-later
"""Garbage collection, from the ownership keys alone."""

import contextlib
import logging
from dataclasses import dataclass

from incus_testbed import errors
from incus_testbed.client import Incus
from incus_testbed.image import labels
from incus_testbed.instance import OWNER_KEY, Instance
from incus_testbed.owner import Owner
from incus_testbed.records import Image, InstanceRecord

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """Instances and unnamed images whose owner is gone."""

    instances: tuple[InstanceRecord, ...]
    images: tuple[Image, ...]


def find(incus: Incus) -> Garbage:
    """Return what nobody owns any more; changes nothing."""
    return Garbage(
        instances=tuple(filter(_is_orphan, incus.instances())),
        images=tuple(filter(_is_unfinished, incus.images())),
    )


def collect(incus: Incus) -> Garbage:
    """Remove what nobody owns any more and return what that was.

    Safe beside running owners and beside another collection: what vanishes
    in the meantime counts as removed.
    """
    garbage = find(incus)
    for record in garbage.instances:
        log.info("removing instance %s", record.name)
        Instance(incus, record.name).delete()
    for image in garbage.images:
        log.info("removing unfinished image %s", image.fingerprint[:12])
        with contextlib.suppress(errors.NotFound):
            incus.delete_image(image.fingerprint)
    return garbage


def _is_orphan(record: InstanceRecord) -> bool:
    owner = Owner.parse(record.config.get(OWNER_KEY, ""))
    return owner is not None and owner.is_gone()


def _is_unfinished(image: Image) -> bool:
    owner = labels.unfinished_by(image)
    return owner is not None and owner.is_gone()
