# SPDX-License-Identifier: GPL-3.0-or-later
"""Claims: what processes are about to do with an image, told to each other.

A claim is an alias of the image, for the server makes and removes each alias
by itself.  Properties would not do: it writes all of an image's at once, and
of changes made at the same time it has been seen to lose some that it had
reported as done (Incus 6.0.4).

To use an image and to remove it are claimed before looking for claims of the
other kind, so that of two processes at least one sees the other's.
"""

import contextlib
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from incus_testbed import errors
from incus_testbed.client import Incus
from incus_testbed.owner import Owner
from incus_testbed.records import CLAIM, Image

#: Seconds in which Incus may still carry out what a killed process asked for.
GRACE = 10.0


class Kind(StrEnum):
    """What is claimed."""

    USE = "use"
    REMOVAL = "removal"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A claim on an image, by one process; ``made`` in seconds since 1970."""

    name: str
    kind: str
    owner: Owner
    made: int

    def stands(self, *, local: bool) -> bool:
        """Tell whether others have to respect it; ``local`` as for owners.

        One from the future was made before somebody put the clock back.
        """
        age = abs(time.time() - self.made)
        if self.kind == Kind.REMOVAL and age < GRACE:
            return True
        return not self.owner.is_gone(local=local)


def stake(incus: Incus, fingerprint: str, kind: Kind) -> str:
    """Make a claim for this process; return its name.

    :raises errors.NotFound: there is no such image
    """
    name = f"{CLAIM}{kind}/{secrets.token_hex(8)}"
    incus.create_alias(
        name, fingerprint, description=f"{Owner.current()} {time.time():.0f}"
    )
    return name


def drop(incus: Incus, name: str) -> None:
    """Give up a claim; no error where it went with its image."""
    with contextlib.suppress(errors.NotFound):
        incus.delete_alias(name)


def on(image: Image) -> Iterator[Claim]:
    """Yield the claims on an image, also those of processes that are gone."""
    for name, text in image.claims.items():
        process, _, made = text.partition(" ")
        owner = Owner.parse(process)
        if owner and made.isdigit():
            kind = name.removeprefix(CLAIM).partition("/")[0]
            yield Claim(name=name, kind=kind, owner=owner, made=int(made))


def stands(image: Image, kind: Kind, *, local: bool) -> bool:
    """Tell whether anybody claims this of an image; ``local`` as for owners."""
    return any(
        each.kind == kind and each.stands(local=local) for each in on(image)
    )
