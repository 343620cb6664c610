# SPDX-License-Identifier: GPL-3.0-or-later
"""Read of a project what shows which owners have ended.

In a list, with any filter, Incus takes 1 ms for the record of an image and
0.25 ms for that of an instance, but next to nothing for all names.  So in a
project with many of them, names say which few are read:

- of the instances that one owner has by their made-up names, the first ones, up
  to one whose owner is not known to have ended;
- the images that have a claim, and those without a name.

That leaves out two things that a thorough look finds: an instance that got its
name from a user, and an image without a name where others have several.
"""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import CLAIM, Image, InstanceRecord
from incus_testbed.instance import naming
from incus_testbed.instance.creation import CREATED_KEY, OWNER_KEY, owner_of
from incus_testbed.ownership.owner import Judge

#: So many are read in one list: Incus takes a twentieth of a second.
_FEW_IMAGES = 50
_FEW_INSTANCES = 200
#: So many lines of instances are shown of many.
_PAGE = 10
#: A record that is asked for alone takes as long as so many in a list.
_ALONE = 5


@dataclass(frozen=True, kw_only=True)
class Images:
    """Images that were read; ``unread`` is the number of the others."""

    read: tuple[Image, ...] = ()
    unread: int = 0


@dataclass(frozen=True, kw_only=True)
class Instances:
    """Instances that were read; ``unread`` are the names of the others.

    ``alike`` has the names of those that stand for others, which seem to have
    the same owner, and for how many.
    """

    read: tuple[InstanceRecord, ...] = ()
    unread: tuple[str, ...] = ()
    alike: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What was read of a project."""

    images: Images
    instances: Instances


def take(incus: Incus, is_gone: Judge, *, thorough: bool = False) -> Inventory:
    """Read what tells which owners have ended, as ``is_gone`` judges them.

    With ``thorough``, and of few, that is all images, and all instances with a
    key of ours.

    :raises errors.TestbedError: the server does not answer
    """
    contents = incus.contents()
    return Inventory(
        images=_images(incus, contents.images, thorough=thorough),
        instances=_instances(
            incus, contents.instances, is_gone, thorough=thorough
        ),
    )


def page(incus: Incus, instances: Instances) -> Iterator[InstanceRecord]:
    """Yield the instances that were read, and others to fill a page.

    Those with a made-up name come first.
    """
    yield from instances.read
    likely = sorted(
        instances.unread, key=lambda name: (not naming.may_be_ours(name), name)
    )
    wanted = max(_PAGE - len(instances.read), 0)
    for _, record in _each(incus, likely[:wanted]):
        yield record


def nameless(incus: Incus) -> list[Image]:
    """Return the images that nothing names but claims."""
    fingerprints = incus.contents().images
    if fingerprints is None or len(fingerprints) <= _FEW_IMAGES:
        return [image for image in incus.images() if not image.aliases]
    wanted = _without_name(fingerprints, incus.alias_targets())
    return list(_found(incus, wanted))


def _images(
    incus: Incus, fingerprints: Sequence[str] | None, *, thorough: bool
) -> Images:
    if fingerprints is not None and not fingerprints:
        return Images()
    if fingerprints is None or len(fingerprints) <= _FEW_IMAGES or thorough:
        return Images(read=tuple(incus.images()))
    names = incus.alias_names()
    wanted = {name for name in names if name.startswith(CLAIM)}
    if len(fingerprints) > len(names) - len(wanted):
        targets = incus.alias_targets()
        wanted = {
            *(targets[name] for name in wanted if name in targets),
            *_without_name(fingerprints, targets),
        }
    if len(wanted) * _ALONE > len(fingerprints):
        return Images(read=tuple(incus.images()))
    read = {image.fingerprint: image for image in _found(incus, wanted)}
    return Images(
        read=tuple(read.values()),
        unread=len({*fingerprints} - {*read}),
    )


def _without_name(
    fingerprints: Iterable[str], targets: Mapping[str, str]
) -> set[str]:
    """Return the fingerprints of images that no alias but a claim names."""
    named = {
        target
        for alias, target in targets.items()
        if not alias.startswith(CLAIM)
    }
    return {*fingerprints} - named


def _found(incus: Incus, words: Iterable[str]) -> Iterator[Image]:
    """Yield the images of aliases and fingerprints that are still there."""
    for word in words:
        with contextlib.suppress(errors.NotFound):
            yield incus.image(word)


def _instances(
    incus: Incus, names: Sequence[str], is_gone: Judge, *, thorough: bool
) -> Instances:
    groups = naming.groups(names)
    if not names:
        return Instances()
    if (
        thorough
        or len(names) <= _FEW_INSTANCES
        or len(groups) * _ALONE > len(names)
    ):
        return Instances(read=tuple(incus.instances(CREATED_KEY, OWNER_KEY)))
    read: dict[str, InstanceRecord] = {}
    alike: dict[str, int] = {}
    for group in groups:
        for number, record in _each(incus, group):
            read[record.name] = record
            owner = owner_of(record)
            if owner and not is_gone(owner):
                alike[record.name] = len(group) - number
                break
    return Instances(
        read=tuple(read.values()),
        unread=tuple(name for name in names if name not in read),
        alike=alike,
    )


def _each(
    incus: Incus, names: Sequence[str]
) -> Iterator[tuple[int, InstanceRecord]]:
    """Yield the instances that are still there, and the number of each."""
    for number, name in enumerate(names, 1):
        with contextlib.suppress(errors.NotFound):
            yield number, incus.instance(name)
