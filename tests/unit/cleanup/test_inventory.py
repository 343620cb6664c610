# SPDX-License-Identifier: GPL-3.0-or-later
"""What is read of a project with many images and instances, and what is not."""

import pytest

from incus_testbed.cleanup import garbage, inventory
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import CLAIM
from incus_testbed.instance import naming
from incus_testbed.instance.creation import OWNER_KEY
from incus_testbed.ownership import claim
from incus_testbed.ownership.owner import Owner, judge
from tests.support import owners
from tests.support.fake_incus import FakeIncus
from tests.support.imported import named, unnamed

_OTHERS = 20


@pytest.fixture(autouse=True)
def _nothing_is_few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "_FEW_IMAGES", 0)
    monkeypatch.setattr(inventory, "_FEW_INSTANCES", 0)


@pytest.fixture
def incus() -> FakeIncus:
    """Have images and instances of somebody else."""
    incus = FakeIncus.set_up()
    for number in range(_OTHERS):
        named(incus, f"t/{number}", ours=False)
        incus.run("init", f"t/{number}", f"other-{number}")
    return incus


def _made_up(incus: Incus, owner: Owner, *, key: str | None = None) -> str:
    """Make an instance as a process does; ``key`` instead of its owner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Owner, "current", lambda: owner)
        name = naming.make_up()
    value = str(owner) if key is None else key
    incus.run("init", "t/0", name, f"--config={OWNER_KEY}={value}")
    return name


def _read(incus: Incus) -> inventory.Inventory:
    return inventory.take(incus, judge(incus.is_only_here))


def _pieces(incus: Incus, *, thorough: bool = False) -> set[tuple[str, str]]:
    return set(garbage.find(incus, thorough=thorough).pieces())


def test_nothing_of_others_is_read(incus: FakeIncus) -> None:
    there = _read(incus)

    assert there.images.read == ()
    assert there.images.unread == _OTHERS
    assert there.instances.read == ()
    assert len(there.instances.unread) == _OTHERS


@pytest.mark.parametrize("owner", [owners.GONE, owners.REBOOTED])
def test_all_instances_of_an_ended_process_are_found(
    incus: FakeIncus, owner: Owner
) -> None:
    kept = _made_up(incus, owner, key="")
    left = {_made_up(incus, owner) for _ in range(3)}
    _made_up(incus, owners.MINE)

    found = garbage.collect(incus)

    assert {record.name for record in found.instances} == left
    assert kept in incus.instance_names()


def test_an_owner_that_lives_is_asked_about_once(incus: FakeIncus) -> None:
    for _ in range(5):
        _made_up(incus, owners.MINE)

    there = _read(incus).instances

    (record,) = there.read
    assert there.alike == {record.name: 4}
    assert _pieces(incus) == set()


def test_what_another_machine_has_is_counted_by_one_of_them(
    incus: FakeIncus,
) -> None:
    for _ in range(4):
        _made_up(incus, owners.ON_ANOTHER_MACHINE)

    found = garbage.find(incus)

    assert found.elsewhere == {owners.ON_ANOTHER_MACHINE.host: {"instance": 4}}
    lost = garbage.find(incus, lost=owners.ON_ANOTHER_MACHINE.host)
    assert len(lost.instances) == 4


def test_the_version_before_left_an_instance(incus: FakeIncus) -> None:
    for owner, name in (
        (owners.GONE, "testbed-abcdefgh"),
        (owners.MINE, "testbed-abcdefgi"),
    ):
        incus.run("init", "t/0", name, f"--config={OWNER_KEY}={owner}")

    assert _pieces(incus) == {("instance", "testbed-abcdefgh")}


def test_a_name_that_a_user_gave_takes_a_thorough_look(
    incus: FakeIncus,
) -> None:
    incus.run("init", "t/0", "mine", f"--config={OWNER_KEY}={owners.GONE}")

    assert _pieces(incus) == set()
    assert _pieces(incus, thorough=True) == {("instance", "mine")}


def test_many_owners_are_read_in_one_list(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(_OTHERS):
        name = f"testbed-{number:08}"
        incus.run("init", "t/0", name, f"--config={OWNER_KEY}={owners.GONE}")
    monkeypatch.setattr(incus, "instance", None)

    assert len(_pieces(incus)) == _OTHERS


def test_claims_and_unfinished_images_are_found(incus: FakeIncus) -> None:
    left = unnamed(incus, "t/left", owner=owners.GONE)
    unnamed(incus, "t/begun", owner=owners.MINE)
    target = incus.image("t/3").fingerprint
    gone = f"{CLAIM}{claim.Kind.USE}/1"
    incus.create_alias(gone, target, description=f"{owners.GONE} 1")
    claim.stake(incus, target, claim.Kind.USE)

    assert _pieces(incus) == {
        ("unfinished image", left.fingerprint),
        ("claim", gone),
    }
    assert len(_read(incus).images.read) == 3


def test_one_without_a_name_beside_one_with_two_takes_a_thorough_look(
    incus: FakeIncus,
) -> None:
    incus.create_alias("t/again", incus.image("t/0").fingerprint)
    left = unnamed(incus, "t/left", owner=owners.GONE)

    assert _pieces(incus) == set()
    assert _pieces(incus, thorough=True) == {
        ("unfinished image", left.fingerprint)
    }


def test_images_without_a_name_are_found_by_who_knows_of_some(
    incus: FakeIncus,
) -> None:
    incus.create_alias("t/again", incus.image("t/0").fingerprint)
    left = unnamed(incus, "t/left")
    claim.stake(incus, left.fingerprint, claim.Kind.USE)

    (found,) = inventory.nameless(incus)

    assert found.fingerprint == left.fingerprint


def test_a_project_with_the_images_of_another_is_read_in_a_list(
    incus: FakeIncus,
) -> None:
    incus.settings["features.images"] = "false"
    assert len(_read(incus).images.read) == _OTHERS


@pytest.fixture
def vanishing(incus: FakeIncus, monkeypatch: pytest.MonkeyPatch) -> FakeIncus:
    """Have another process remove all that is ours once it was listed."""
    listed = incus.contents

    def contents() -> object:
        found = listed()
        for name in filter(naming.may_be_ours, found.instances):
            incus.delete(name)
        for name in incus.alias_names():
            if name.startswith(CLAIM):
                incus.delete_alias(name)
        return found

    monkeypatch.setattr(incus, "contents", contents)
    return incus


def test_what_vanishes_meanwhile_is_left_out(vanishing: FakeIncus) -> None:
    _made_up(vanishing, owners.GONE)
    unnamed(vanishing, "t/left", owner=owners.GONE)
    claim.stake(vanishing, vanishing.image("t/1").fingerprint, claim.Kind.USE)

    assert _read(vanishing).instances.read == ()
