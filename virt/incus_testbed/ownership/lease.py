# SPDX-License-Identifier: GPL-3.0-or-later
"""Lease an image: keep it while this process may launch instances of it."""

import time
from dataclasses import dataclass

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.incus.connection import INSTANCE_LIMIT
from incus_testbed.incus.records import Image
from incus_testbed.ownership import claim
from incus_testbed.ownership.claim import Kind
from incus_testbed.ownership.owner import judge

_POLL = 0.05
_TRIES = 10


@dataclass(frozen=True, kw_only=True)
class Lease:
    """An image that is kept until ``release`` or the end of this process."""

    incus: Incus
    name: str
    image: Image

    def release(self) -> None:
        """Allow the image to be removed."""
        claim.drop(self.incus, self.name)


def take(incus: Incus, alias: str) -> Lease:
    """Keep the image that an alias names now.

    The claim is made on the image that the alias named before.  Then the alias
    is looked up again: Incus.named() returns an image, its aliases and all
    claims on it as they were at one moment.  If our claim is among them, the
    alias named the claimed image at that moment, and no process that claims to
    remove it can have missed our claim.  If it is not, the alias has moved.

    :raises errors.NotFound: it names none
    :raises errors.Busy: it named another image at each attempt
    """
    for _ in range(_TRIES):
        image = incus.named(alias)
        try:
            name = claim.stake(incus, image.fingerprint, Kind.USE)
        except errors.NotFound:
            continue
        try:
            image = _settled(incus, alias)
        except BaseException:
            claim.drop(incus, name)
            raise
        if name in image.claims:
            return Lease(incus=incus, name=name, image=image)
        claim.drop(incus, name)
    raise errors.Busy(f"The image {alias} is replaced again and again")


def _settled(incus: Incus, alias: str) -> Image:
    """Return an alias's image, once no process claims to remove it."""
    deadline = time.monotonic() + INSTANCE_LIMIT
    is_gone = judge(incus.is_only_here)
    while True:
        image = incus.named(alias)
        if not claim.stands(image, Kind.REMOVAL, is_gone):
            return image
        if time.monotonic() > deadline:
            raise errors.TimedOut(
                f"Another process has been removing {alias} for"
                f" {INSTANCE_LIMIT:.0f} s",
                resolution=_remedy(image),
            )
        time.sleep(_POLL)


def _remedy(image: Image) -> str:
    """Say what to do about a process of another host that may be gone."""
    for each in claim.on(image):
        if each.kind == Kind.REMOVAL and each.owner.pid == 0:
            host = each.owner.host_id
            return (
                f"If its host is gone for good: incus-testbed gc --host={host}"
            )
    return "Try again."
