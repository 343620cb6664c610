# SPDX-License-Identifier: GPL-3.0-or-later
"""Which claims on an image count."""

import dataclasses
import time

import pytest

from incus_testbed.incus import records
from incus_testbed.incus.records import CLAIM, Image
from incus_testbed.ownership import claim
from incus_testbed.ownership.claim import GRACE, Kind
from incus_testbed.ownership.owner import Owner

ALIVE = Owner.current()
GONE = dataclasses.replace(ALIVE, started=1)
_DATE = "2026-01-01T00:00:00Z"


def _is_gone(owner: Owner) -> bool:
    return owner.is_gone(only_here=lambda: True)


def image(**aliases: str) -> Image:
    """Have an image with aliases, as the server describes it."""
    return records.image(
        {
            "fingerprint": "0" * 64,
            "aliases": [
                {"name": name, "description": text}
                for name, text in aliases.items()
            ],
            "properties": {},
            "type": "container",
            "architecture": "x86_64",
            "size": 1,
            "created_at": _DATE,
            "uploaded_at": _DATE,
            "last_used_at": _DATE,
        }
    )


def made(seconds_ago: float) -> int:
    return int(time.time() - seconds_ago)


@pytest.mark.parametrize(
    ("kind", "owner", "age", "stands"),
    [
        (Kind.USE, ALIVE, 1e6, True),
        (Kind.USE, GONE, 0, False),
        (Kind.REMOVAL, ALIVE, 1e6, True),
        (Kind.REMOVAL, GONE, GRACE + 2, False),
        # What it asked Incus for may be carried out yet.
        (Kind.REMOVAL, GONE, GRACE - 2, True),
        # The clock was put back by a day since.
        (Kind.REMOVAL, ALIVE, -86400, True),
        (Kind.REMOVAL, GONE, -86400, False),
    ],
)
def test_claim_stands_while_its_owner_may_act(
    kind: Kind, owner: Owner, age: float, stands: bool
) -> None:
    claimed = image(**{f"{CLAIM}{kind}/ab": f"{owner} {made(age)}"})
    assert claim.stands(claimed, kind, _is_gone) is stands
    other = next(each for each in Kind if each != kind)
    assert not claim.stands(claimed, other, _is_gone)


def test_claims_are_no_names() -> None:
    claimed = image(**{f"{CLAIM}use/ab": f"{ALIVE} 1", "artifact/1": "mine"})
    assert claimed.aliases == ("artifact/1",)
    (found,) = claim.on(claimed)
    assert found.owner == ALIVE


@pytest.mark.parametrize(
    "text",
    ["", "1", str(ALIVE), f"{ALIVE} soon", "x 1"],
    ids=["empty", "only a time", "only an owner", "no time", "no owner"],
)
def test_what_nobody_can_have_claimed_is_left_out(text: str) -> None:
    assert not list(claim.on(image(**{f"{CLAIM}use/ab": text})))
