# SPDX-License-Identifier: GPL-3.0-or-later
"""Find and remove garbage, using only the ownership keys."""

import contextlib
import functools
import logging
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from incus_testbed import errors
from incus_testbed.image import properties
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import Image, InstanceRecord
from incus_testbed.instance.creation import OWNER_KEY
from incus_testbed.instance.instance import Instance
from incus_testbed.ownership import claim, holdings
from incus_testbed.ownership.holdings import Kind
from incus_testbed.ownership.owner import Owner

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """What owners that have ended have left.

    ``images`` have no alias.  ``claims`` are names (see ownership/claim.py).
    """

    instances: tuple[InstanceRecord, ...]
    images: tuple[Image, ...]
    claims: tuple[str, ...]

    def pieces(self) -> Iterator[tuple[str, str]]:
        """Yield the kind of each piece, in words, and its name."""
        for record in self.instances:
            yield "instance", record.name
        for image in self.images:
            yield "unfinished image", image.fingerprint
        for name in self.claims:
            yield "claim", name


def find(incus: Incus) -> Garbage:
    """Return everything whose owner has ended, without removing it."""
    return among(incus, incus.images(), incus.instances(OWNER_KEY))


def among(
    incus: Incus, images: Iterable[Image], instances: Iterable[InstanceRecord]
) -> Garbage:
    """Return what is garbage of some images and instances."""
    local = incus.is_local()

    def is_gone(owner: Owner | None) -> bool:
        return owner is not None and owner.is_gone(local=local)

    return Garbage(
        instances=tuple(
            record for record in instances if is_gone(_owner(record))
        ),
        images=tuple(
            image
            for image in images
            if is_gone(properties.unfinished_by(image))
            # An image that another has replaced may still be leased.
            and not claim.stands(image, claim.Kind.USE, local=local)
        ),
        claims=tuple(
            each.name
            for image in images
            for each in claim.on(image)
            if not each.stands(local=local)
        ),
    )


def orphans(incus: Incus, names: Iterable[str]) -> Garbage:
    """Return what is garbage of the instances of these names.

    Each is asked for alone, so that others cost nothing.
    """
    return among(incus, (), _instances(incus, names))


def _instances(incus: Incus, names: Iterable[str]) -> Iterator[InstanceRecord]:
    for name in names:
        with contextlib.suppress(errors.NotFound):
            yield incus.instance(name)


def collect(incus: Incus) -> Garbage:
    """Remove everything whose owner has ended, and return what it was.

    :raises errors.TestbedError: as remove()
    """
    garbage = find(incus)
    remove(incus, garbage)
    return garbage


def remove(incus: Incus, garbage: Garbage) -> None:
    """Remove what was found.

    Running owners and other collections can go on meanwhile: if something
    disappears in between, it counts as removed.

    :raises errors.TestbedError: something can't be removed; the rest has been
        removed
    """
    for name in garbage.claims:
        log.info("removing %s", name)
        claim.drop(incus, name)
    failure = None
    for removal in _removals(incus, garbage):
        try:
            removal()
        except errors.TestbedError as error:
            log.warning("%s", error.brief)
            failure = failure or error
    if failure:
        raise failure


def _removals(incus: Incus, garbage: Garbage) -> Iterator[Callable[[], None]]:
    for record in garbage.instances:
        log.info("removing instance %s", record.name)
        yield Instance(incus, record.name).delete
    for image in garbage.images:
        yield functools.partial(_remove, incus, image)


def relinquish(incus: Incus) -> None:
    """Give up what this process owns: instances, and leases on images.

    A process that goes on calls this when a part of its work is over.  Images
    that it has not finished importing are removed too; they are searched for
    if an import has failed.
    """
    mine = Owner.current()
    for record in _instances(incus, holdings.names(Kind.INSTANCE)):
        # Perhaps the user keeps it, or it is another one of the same name.
        if _owner(record) == mine:
            log.info("removing instance %s", record.name)
            Instance(incus, record.name).delete()
    for name in holdings.names(Kind.CLAIM):
        claim.drop(incus, name)
    failed = holdings.names(Kind.IMPORT)
    for image in incus.images() if failed else ():
        if properties.unfinished_by(image) == mine:
            _remove(incus, image)
    for alias in failed:
        holdings.forget(Kind.IMPORT, alias)


def _remove(incus: Incus, image: Image) -> None:
    log.info("removing unfinished image %s", image.fingerprint[:12])
    with contextlib.suppress(errors.NotFound):
        incus.delete_image(image.fingerprint)


def _owner(record: InstanceRecord) -> Owner | None:
    return Owner.parse(record.config.get(OWNER_KEY, ""))
