# SPDX-License-Identifier: GPL-3.0-or-later
"""Claim an image: tell other processes that this one uses or removes it.

A claim is an alias of the image, because the server makes and removes each
alias on its own.  Image properties can't be used: the server writes all of an
image's properties at once.  When several processes changed them at the same
time, Incus 6.0.4 lost changes that it had reported as done.

A process first makes its claim, and then looks for claims of the other kind.
So when one process uses and another removes an image, at least one of them
sees the other's claim.

Without claims, tests/integration/test_eviction.py sees two processes lose 20
images each within 12 seconds of use.  Sparing what was used lately would not
do: when the disk is full, all that is not in use has to go.
"""

import contextlib
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import CLAIM, Image
from incus_testbed.ownership import holdings
from incus_testbed.ownership.owner import Judge, Owner

#: For this many seconds Incus may still carry out a killed process's request.
GRACE = 10.0


class Kind(StrEnum):
    """The purpose of a claim."""

    USE = "use"
    REMOVAL = "removal"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim on an image, by one process; ``made`` in seconds since 1970."""

    name: str
    kind: str
    owner: Owner
    made: int

    def stands(self, is_gone: Judge) -> bool:
        """Tell whether others have to respect it; ``is_gone`` judges its owner.

        A claim's time is in the future if the clock was set back since.
        """
        age = abs(time.time() - self.made)
        if self.kind == Kind.REMOVAL and age < GRACE:
            return True
        return not is_gone(self.owner)


def stake(incus: Incus, fingerprint: str, kind: Kind) -> str:
    """Make a claim for this process; return its name.

    :raises errors.NotFound: there is no such image
    """
    name = f"{CLAIM}{kind}/{secrets.token_hex(8)}"
    holdings.note(holdings.Kind.CLAIM, name)
    text = f"{Owner.current()} {time.time():.0f}"
    try:
        incus.create_alias(name, fingerprint, description=text)
    except errors.NotFound:
        holdings.forget(holdings.Kind.CLAIM, name)
        raise
    return name


def drop(incus: Incus, name: str) -> None:
    """Remove a claim; no error if it was removed together with its image."""
    with contextlib.suppress(errors.NotFound):
        incus.delete_alias(name)
    holdings.forget(holdings.Kind.CLAIM, name)


def on(image: Image) -> Iterator[Claim]:
    """Yield the claims on an image, also those of processes that are gone."""
    for name, text in image.claims.items():
        process, _, made = text.partition(" ")
        owner = Owner.parse(process)
        if owner and made.isdigit():
            kind = name.removeprefix(CLAIM).partition("/")[0]
            yield Claim(name=name, kind=kind, owner=owner, made=int(made))


def stands(image: Image, kind: Kind, is_gone: Judge) -> bool:
    """Tell whether an image has such a claim that others have to respect."""
    return any(each.kind == kind and each.stands(is_gone) for each in on(image))
