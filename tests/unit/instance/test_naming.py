# SPDX-License-Identifier: GPL-3.0-or-later
"""Made-up names tell instances of one process together."""

import re

import pytest

from incus_testbed.instance import naming
from incus_testbed.ownership.owner import Owner
from tests.support import owners


def _names(owner: Owner, count: int) -> list[str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Owner, "current", lambda: owner)
        return [naming.make_up() for _ in range(count)]


def test_a_name_is_short_and_its_own() -> None:
    names = _names(owners.MINE, 10)

    assert len({*names}) > 8
    for name in names:
        assert re.fullmatch(r"testbed-[a-z0-9]{11}", name)
        assert naming.may_be_ours(name)
        assert owners.MINE.host[:3] not in name


def test_processes_of_this_place_are_told_apart() -> None:
    mine, gone = _names(owners.MINE, 3), _names(owners.GONE, 2)

    groups = naming.groups([*mine, "a-users-own", *gone])

    assert groups == [mine, gone]


@pytest.mark.parametrize(
    "owner",
    [owners.REBOOTED, owners.ON_ANOTHER_MACHINE, owners.IN_ANOTHER_CONTAINER],
    ids=["boot", "machine", "container"],
)
def test_another_place_is_one_group(owner: Owner) -> None:
    mine, theirs = _names(owners.MINE, 2), _names(owner, 3)

    assert naming.groups([*theirs, *mine]) == [theirs, mine]


def test_each_name_of_an_earlier_version_is_a_group() -> None:
    names = ["testbed-abcdefgh", "testbed-01234567"]

    assert naming.groups(names) == [[name] for name in names]


@pytest.mark.parametrize(
    "name", ["", "testbed-", "testbed-1", "x-testbed-abcdefgh", "other"]
)
def test_other_names_are_in_no_group(name: str) -> None:
    assert naming.groups([name]) == []
