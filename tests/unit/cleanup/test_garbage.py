# SPDX-License-Identifier: GPL-3.0-or-later
"""What garbage collection takes for garbage."""

import dataclasses
import time
from typing import Any

import pytest

from incus_testbed import errors
from incus_testbed.cleanup import garbage
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import CLAIM
from incus_testbed.instance.creation import OWNER_KEY
from incus_testbed.instance.instance import Instance
from incus_testbed.ownership import claim, holdings, lease
from incus_testbed.ownership.claim import GRACE, Kind
from incus_testbed.ownership.owner import Owner
from tests.support import owners
from tests.support.fake_incus import FakeIncus
from tests.support.imported import named, unnamed


@pytest.fixture
def incus() -> FakeIncus:
    incus = FakeIncus.set_up()
    named(incus, "t/image")
    return incus


def _init(incus: Incus, name: str, owner: object) -> None:
    incus.run("init", "t/image", name, f"--config={OWNER_KEY}={owner}")


def _instances(incus: Incus) -> set[str]:
    return {record.name for record in incus.instances()}


def _fingerprints(incus: Incus) -> set[str]:
    return {image.fingerprint for image in incus.images()}


def _claim(
    incus: Incus,
    owner: Owner,
    kind: Kind = Kind.USE,
    age: float = 0,
    image: str = "t/image",
) -> str:
    """Claim an image as another process; return the claim's name."""
    name = f"{CLAIM}{kind}/{owner.pid}-{owner.started}-{owner.boot[:8]}"
    incus.create_alias(
        name,
        incus.image(image).fingerprint,
        description=f"{owner} {time.time() - age:.0f}",
    )
    return name


def _claims(incus: Incus) -> set[str]:
    return set(incus.image("t/image").claims)


def test_there_is_none(incus: FakeIncus) -> None:
    assert list(garbage.collect(incus).pieces()) == []


@pytest.mark.parametrize("owner", [owners.GONE, owners.REBOOTED])
@pytest.mark.parametrize("running", [True, False])
def test_an_instance_goes_with_its_owner(
    incus: FakeIncus, owner: Owner, running: bool
) -> None:
    _init(incus, "orphan", owner)
    if running:
        incus.start("orphan")

    (piece,) = garbage.collect(incus).pieces()

    assert piece == ("instance", "orphan")
    assert not _instances(incus)


@pytest.mark.parametrize(
    "owner",
    [
        owners.MINE,
        owners.ON_ANOTHER_MACHINE,
        owners.IN_ANOTHER_CONTAINER,
        "somebody",
        "",
    ],
    ids=["alive", "machine", "container", "text", "none"],
)
def test_an_instance_that_somebody_may_own_stays(
    incus: FakeIncus, owner: object
) -> None:
    _init(incus, "owned", owner)

    assert list(garbage.collect(incus).pieces()) == []

    assert _instances(incus) == {"owned"}


def test_an_instance_without_the_key_stays_whatever_its_name(
    incus: FakeIncus,
) -> None:
    incus.run("init", "t/image", "testbed-abcdefgh")

    garbage.collect(incus)

    assert _instances(incus) == {"testbed-abcdefgh"}


def test_on_another_server_another_boot_may_be_alive(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clone of this machine may run there."""
    _init(incus, "orphan", owners.REBOOTED)
    unnamed(incus, "t/new", owner=owners.REBOOTED)
    _claim(incus, owners.REBOOTED)
    monkeypatch.setattr(incus, "is_local", lambda: False)

    assert list(garbage.find(incus).pieces()) == []


def test_an_unfinished_image_goes_with_its_owner(incus: FakeIncus) -> None:
    image = unnamed(incus, "t/new", owner=owners.GONE)
    before = _fingerprints(incus)

    (piece,) = garbage.collect(incus).pieces()

    assert piece == ("unfinished image", image.fingerprint)
    assert _fingerprints(incus) == before - {image.fingerprint}


@pytest.mark.parametrize(
    "owner",
    [owners.MINE, owners.ON_ANOTHER_MACHINE, owners.IN_ANOTHER_CONTAINER],
    ids=["alive", "machine", "container"],
)
def test_an_image_that_somebody_may_still_name_stays(
    incus: FakeIncus, owner: Owner
) -> None:
    image = unnamed(incus, "t/new", owner=owner)

    garbage.collect(incus)

    assert image.fingerprint in _fingerprints(incus)


def test_an_image_with_a_name_is_finished(incus: FakeIncus) -> None:
    image = unnamed(incus, "t/new", owner=owners.GONE)
    incus.create_alias("t/new", image.fingerprint)

    garbage.collect(incus)

    assert image.fingerprint in _fingerprints(incus)


def test_a_copy_of_an_unfinished_image_is_not_ours(incus: FakeIncus) -> None:
    """As incus publish makes it, with our properties and its own date."""
    image = unnamed(incus, "t/new", owner=owners.GONE, ours=False)

    garbage.collect(incus)

    assert image.fingerprint in _fingerprints(incus)


def test_a_claim_does_not_finish_an_image(incus: FakeIncus) -> None:
    image = unnamed(incus, "t/new", owner=owners.GONE)
    _claim(incus, owners.GONE, image=image.fingerprint)

    garbage.collect(incus)

    assert image.fingerprint not in _fingerprints(incus)


def test_an_image_that_was_replaced_stays_while_it_is_leased(
    incus: FakeIncus,
) -> None:
    image = unnamed(incus, "t/new", owner=owners.GONE)
    name = claim.stake(incus, image.fingerprint, Kind.USE)

    garbage.collect(incus)

    assert image.fingerprint in _fingerprints(incus)
    claim.drop(incus, name)
    garbage.collect(incus)
    assert image.fingerprint not in _fingerprints(incus)


def test_claims_go_with_their_owners_and_the_image_stays(
    incus: FakeIncus,
) -> None:
    gone = {
        _claim(incus, owners.GONE),
        _claim(incus, owners.REBOOTED, Kind.REMOVAL, GRACE + 2),
    }
    stay = {
        _claim(incus, owners.MINE),
        _claim(incus, owners.ON_ANOTHER_MACHINE),
        # Incus may still remove the image for a process that was killed.
        _claim(incus, owners.GONE, Kind.REMOVAL, GRACE - 5),
    }

    pieces = set(garbage.collect(incus).pieces())

    assert pieces == {("claim", name) for name in gone}
    assert _claims(incus) == stay


def test_finding_removes_nothing(incus: FakeIncus) -> None:
    _init(incus, "orphan", owners.GONE)
    image = unnamed(incus, "t/new", owner=owners.GONE)
    name = _claim(incus, owners.GONE)

    found = list(garbage.find(incus).pieces())

    assert found == [
        ("instance", "orphan"),
        ("unfinished image", image.fingerprint),
        ("claim", name),
    ]
    assert _instances(incus) == {"orphan"}
    assert image.fingerprint in _fingerprints(incus)
    assert _claims(incus) == {name}
    assert list(garbage.collect(incus).pieces()) == found
    assert list(garbage.find(incus).pieces()) == []


def test_what_can_not_be_removed_does_not_keep_the_rest(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        _init(incus, name, owners.GONE)
    image = unnamed(incus, "t/new", owner=owners.GONE)
    delete = incus.delete

    def refuse(name: str) -> None:
        if name != "c":
            raise errors.Denied(f"{name} is not yours")
        delete(name)

    monkeypatch.setattr(incus, "delete", refuse)

    with pytest.raises(errors.Denied, match="is not yours"):
        garbage.collect(incus)

    assert _instances(incus) == {"a", "b"}
    assert image.fingerprint not in _fingerprints(incus)


def test_what_another_removes_meanwhile_is_removed(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    _init(incus, "orphan", owners.GONE)
    unnamed(incus, "t/new", owner=owners.GONE)
    _claim(incus, owners.GONE)
    found = garbage.find(incus)
    garbage.collect(incus)
    monkeypatch.setattr(garbage, "find", lambda _: found)

    assert garbage.collect(incus) == found


def _launched(incus: Incus) -> Instance:
    return Instance.launch(incus, "t/image", purpose="test")


def _unfinished(incus: Incus, alias: str) -> str:
    """Begin an import that fails, and is not undone; return the fingerprint."""
    holdings.note(holdings.Kind.IMPORT, alias)
    return unnamed(incus, alias).fingerprint


def test_relinquishing_gives_up_what_is_mine_alone(incus: FakeIncus) -> None:
    _launched(incus)
    _init(incus, "orphan", owners.GONE)
    _init(incus, "nobodys", "")
    mine = _unfinished(incus, "t/mine")
    other = unnamed(incus, "t/other", owner=owners.IN_ANOTHER_CONTAINER)
    lease.take(incus, "t/image")
    claimed = _claim(incus, owners.ON_ANOTHER_MACHINE)

    garbage.relinquish(incus)

    assert _instances(incus) == {"orphan", "nobodys"}
    assert mine not in _fingerprints(incus)
    assert other.fingerprint in _fingerprints(incus)
    assert _claims(incus) == {claimed}


def test_relinquishing_spares_what_is_not_mine_any_more(
    incus: FakeIncus,
) -> None:
    kept, replaced = _launched(incus), _launched(incus)
    kept.keep()
    incus.delete(replaced.name)
    _init(incus, replaced.name, owners.ON_ANOTHER_MACHINE)

    garbage.relinquish(incus)

    assert _instances(incus) == {kept.name, replaced.name}


def test_a_child_gives_up_nothing_of_its_parents(incus: FakeIncus) -> None:
    instance, held = _launched(incus), lease.take(incus, "t/image")
    child = dataclasses.replace(owners.MINE, pid=1)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Owner, "current", lambda: child)
        own = lease.take(incus, "t/image")

        garbage.relinquish(incus)

    assert _instances(incus) == {instance.name}
    assert _claims(incus) == {held.name}
    assert own.name != held.name


def test_what_could_not_be_given_up_is_tried_again(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    _launched(incus)
    lease.take(incus, "t/image")
    _unfinished(incus, "t/mine")

    def refuse(*_: str) -> None:
        raise errors.DaemonDown("Incus is restarted")

    for verb in ("instance", "delete_alias", "delete_image"):
        with monkeypatch.context() as patch:
            patch.setattr(incus, verb, refuse)
            with pytest.raises(errors.DaemonDown):
                garbage.relinquish(incus)

    garbage.relinquish(incus)

    assert not _instances(incus)
    assert not _claims(incus)
    assert all(image.aliases for image in incus.images())


def test_a_launch_that_seems_to_fail_may_have_made_something(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when Incus is restarted in the middle of a launch."""
    launch = incus.launch

    def late(*words: str, **settings: Any) -> None:
        launch(*words, **settings)
        monkeypatch.setattr(incus, "instance", down)
        raise errors.DaemonDown("Incus is restarted")

    def down(_: str) -> None:
        raise errors.DaemonDown("Incus is restarted")

    with monkeypatch.context() as patch:
        patch.setattr(incus, "launch", late)
        with pytest.raises(errors.DaemonDown):
            _launched(incus)
    monkeypatch.undo()
    assert _instances(incus)

    garbage.relinquish(incus)

    assert not _instances(incus)
