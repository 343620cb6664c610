# SPDX-License-Identifier: GPL-3.0-or-later
"""Make room: remove unused images that can be made again."""

import contextlib
import logging
import math
from collections.abc import Callable
from datetime import datetime

from incus_testbed import errors
from incus_testbed.image import alias as names
from incus_testbed.image import properties
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import Image
from incus_testbed.ownership import claim
from incus_testbed.ownership.claim import Kind
from incus_testbed.ownership.owner import judge

log = logging.getLogger(__name__)

#: Key of an instance's configuration: the fingerprint of its image.
_BASE_IMAGE = "volatile.base_image"


def evict(
    incus: Incus,
    *,
    keep: float = math.inf,
    max_bytes: float = math.inf,
    dry_run: bool = False,
) -> list[Image]:
    """Remove evictable images, the least recently used first.

    At most ``keep`` of them stay, with at most ``max_bytes`` in total, which
    includes their unpacked size; images in use stay in any case.  Returns the
    removed images, or with ``dry_run`` those that would be removed now.  Other
    processes may use and evict images at the same time.
    """
    if keep == max_bytes == math.inf:
        return []
    remove = _may_be_removed if dry_run else remove_unused
    kept = sorted(evictable(incus), key=_last_use)
    removed = []
    for image in kept.copy():
        size = sum(properties.disk_use(each) for each in kept)
        if len(kept) <= keep and size <= max_bytes:
            break
        if remove(incus, image, properties.is_evictable):
            kept.remove(image)
            removed.append(image)
    return removed


def evictable(incus: Incus) -> list[Image]:
    """Return the images that may be removed for space.

    Their aliases are made of what they can be made again from.  So of all
    other images only the names are looked at.
    """
    found = []
    for name in filter(names.is_of_file, incus.alias_names()):
        with contextlib.suppress(errors.NotFound):
            found.append(incus.named(name))
    return list(filter(properties.is_evictable, found))


def remove_unused(
    incus: Incus, image: Image, may_go: Callable[[Image], bool]
) -> bool:
    """Remove an image that ``may_go``, unless it is in use.

    An image is in use while a process has a lease on it, or an instance made
    from it exists.  Returns whether it is gone.
    """
    fingerprint = image.fingerprint
    try:
        # Without this look, others would wait for a claim that is in vain.
        if not _is_unused(incus, image, may_go):
            return False
        name = claim.stake(incus, fingerprint, Kind.REMOVAL)
        try:
            # Only a lease can have seen the claim: a launch without one does
            # not look, so another look at the instances would tell nothing.
            free = _is_free(incus, image, may_go)
            if free:
                log.info("removing %s to make room", " ".join(image.aliases))
                incus.delete_image(fingerprint)
        finally:
            claim.drop(incus, name)
    except errors.NotFound:
        return True
    return free


def _may_be_removed(
    incus: Incus, image: Image, may_go: Callable[[Image], bool]
) -> bool:
    """Tell whether remove_unused() would say that an image is gone."""
    try:
        return _is_unused(incus, image, may_go)
    except errors.NotFound:
        return True


def _is_unused(
    incus: Incus, image: Image, may_go: Callable[[Image], bool]
) -> bool:
    """Tell whether an image may go, has no lease, and no instance.

    :raises errors.NotFound: it is gone
    """
    return _is_free(incus, image, may_go) and not incus.instances(
        _BASE_IMAGE, value=image.fingerprint
    )


def _is_free(
    incus: Incus, image: Image, may_go: Callable[[Image], bool]
) -> bool:
    """Tell whether an image, in its current state, may go and has no lease.

    :raises errors.NotFound: it is gone
    """
    now = incus.image(image.fingerprint)
    return may_go(now) and not claim.stands(
        now, Kind.USE, judge(incus.is_only_here)
    )


def _last_use(image: Image) -> datetime:
    return max(image.uploaded, image.last_used or image.uploaded)
