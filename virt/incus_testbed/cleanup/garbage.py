# SPDX-License-Identifier: GPL-3.0-or-later
"""Find and remove garbage, using only the ownership keys."""

import contextlib
import functools
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from incus_testbed import errors
from incus_testbed.cleanup import inventory
from incus_testbed.cleanup.inventory import Images, Instances
from incus_testbed.cleanup.ownerless import named, ownerless
from incus_testbed.image import properties
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import Image, InstanceRecord
from incus_testbed.instance.creation import owner_of
from incus_testbed.instance.instance import Instance
from incus_testbed.ownership import claim, holdings, shared_lock
from incus_testbed.ownership.holdings import Kind
from incus_testbed.ownership.owner import Judge, Owner, judge

log = logging.getLogger(__name__)

_INSTANCE = "instance"
_IMAGE = "unfinished image"
_CLAIM = "claim"
_LOCK = "lock"


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """What owners that have ended have left.

    ``images`` have no alias.  ``claims`` and ``locks`` are names (see claim.py
    and shared_lock.py in ownership/).

    ``elsewhere`` is no garbage as far as can be known here: what other hosts
    own, and other boots of this one, as the number of pieces of each kind.
    """

    instances: tuple[InstanceRecord, ...]
    images: tuple[Image, ...]
    claims: tuple[str, ...]
    locks: tuple[str, ...]
    elsewhere: Mapping[str, Counter[str]] = field(compare=False)

    def pieces(self) -> Iterator[tuple[str, str]]:
        """Yield the kind of each piece, in words, and its name."""
        for record in self.instances:
            yield _INSTANCE, record.name
        for image in self.images:
            yield _IMAGE, image.fingerprint
        for name in self.claims:
            yield _CLAIM, name
        for name in self.locks:
            yield _LOCK, name


def find(incus: Incus, *, lost: str = "", thorough: bool = False) -> Garbage:
    """Return everything whose owner has ended, without removing it.

    ``lost`` is a host that an admin has given up (see Owner.is_gone).  In a
    project with many images or instances some can be missed, unless the look
    is ``thorough`` (see inventory.py).
    """
    is_gone = judge(incus.is_only_here, lost=lost)
    found = inventory.take(incus, is_gone, thorough=thorough or bool(lost))
    return among(incus, found.images, found.instances, locks(incus), lost=lost)


def locks(incus: Incus) -> Mapping[str, Owner]:
    """Return the locks of all who share the server, with their holders."""
    # Nobody makes one in the server of this machine alone.
    return {} if incus.is_only_here() else shared_lock.owners(incus)


def among(
    incus: Incus,
    of_images: Images,
    of_instances: Instances,
    held: Mapping[str, Owner] | None = None,
    *,
    lost: str = "",
) -> Garbage:
    """Return what is garbage of some images, instances and locks, as find()."""
    images, instances, held = of_images.read, of_instances.read, held or {}
    alike = of_instances.alike
    is_gone = judge(incus.is_only_here, lost=lost)
    return Garbage(
        instances=tuple(ownerless(instances, is_gone)),
        images=tuple(
            image
            for image in images
            if (owner := properties.unfinished_by(image))
            and is_gone(owner)
            # An image that another has replaced may still be leased.
            and not claim.stands(image, claim.Kind.USE, is_gone)
        ),
        claims=tuple(
            each.name
            for image in images
            for each in claim.on(image)
            if not each.stands(is_gone)
        ),
        locks=tuple(name for name, owner in held.items() if is_gone(owner)),
        elsewhere=_elsewhere(
            [
                *(
                    (_INSTANCE, owner_of(record))
                    for record in instances
                    for _ in range(1 + alike.get(record.name, 0))
                ),
                *((_IMAGE, properties.unfinished_by(each)) for each in images),
                *(
                    (_CLAIM, each.owner)
                    for image in images
                    for each in claim.on(image)
                ),
                *((_LOCK, owner) for owner in held.values()),
            ],
            is_gone,
        ),
    )


def _elsewhere(
    owned: Iterable[tuple[str, Owner | None]], is_gone: Judge
) -> dict[str, Counter[str]]:
    """Count what can't be judged from here, by the host that owns it."""
    here = Owner.current().boot
    hosts: dict[str, Counter[str]] = {}
    for kind, owner in owned:
        if owner and owner.boot != here and not is_gone(owner):
            hosts.setdefault(owner.host, Counter())[kind] += 1
    return hosts


def orphans(incus: Incus, names: Iterable[str]) -> Garbage:
    """Return what is garbage of the instances of these names."""
    return among(incus, Images(), Instances(read=tuple(named(incus, names))))


def collect(incus: Incus, *, lost: str = "", thorough: bool = False) -> Garbage:
    """Remove everything whose owner has ended, and return what it was.

    The arguments are those of find().

    :raises errors.TestbedError: as remove()
    """
    garbage = find(incus, lost=lost, thorough=thorough)
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
    for name in garbage.locks:
        log.info("removing %s", name)
        yield functools.partial(shared_lock.remove, incus, name)


def relinquish(incus: Incus) -> None:
    """Give up what this process owns: instances, and leases on images.

    A process that goes on calls this when a part of its work is over.  Images
    that it has not finished importing are removed too; they are searched for
    if an import has failed.
    """
    mine = Owner.current()
    for record in named(incus, holdings.names(Kind.INSTANCE)):
        # Perhaps the user keeps it, or it is another one of the same name.
        if owner_of(record) == mine:
            log.info("removing instance %s", record.name)
            Instance(incus, record.name).delete()
    for name in holdings.names(Kind.CLAIM):
        claim.drop(incus, name)
    failed = holdings.names(Kind.IMPORT)
    for image in inventory.nameless(incus) if failed else ():
        if properties.unfinished_by(image) == mine:
            _remove(incus, image)
    for alias in failed:
        holdings.forget(Kind.IMPORT, alias)


def _remove(incus: Incus, image: Image) -> None:
    log.info("removing unfinished image %s", image.fingerprint[:12])
    with contextlib.suppress(errors.NotFound):
        incus.delete_image(image.fingerprint)
