# SPDX-License-Identifier: GPL-3.0-or-later
"""What garbage collection takes for garbage."""

import dataclasses
import hashlib
import time
from collections import Counter
from typing import Any

import pytest

from incus_testbed import errors
from incus_testbed.cleanup import background, garbage
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import CLAIM
from incus_testbed.instance.creation import OWNER_KEY
from incus_testbed.instance.instance import Instance
from incus_testbed.ownership import claim, holdings, lease, shared_lock
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
    words = (owner.pid, owner.started, owner.boot[:8], owner.host[:8])
    name = f"{CLAIM}{kind}/{'-'.join(map(str, words))}"
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


def test_a_look_at_what_ends_does_not_ask_who_shares_the_server(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    _init(incus, "testbed-orphaned", owners.GONE)
    _init(incus, "testbed-foreign0", owners.ON_ANOTHER_MACHINE)
    _claim(incus, owners.MINE)
    monkeypatch.setattr(incus, "server", None)

    suspected = background.suspects(incus, "testbed-abcdefgh")
    assert suspected == frozenset({"testbed-orphaned"})


@pytest.mark.parametrize("server", ["remote", "cluster"])
def test_on_a_server_of_many_another_boot_may_be_alive(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch, server: str
) -> None:
    """A clone of this machine may use it, or be a member of the cluster."""
    _init(incus, "orphan", owners.REBOOTED)
    unnamed(incus, "t/new", owner=owners.REBOOTED)
    _claim(incus, owners.REBOOTED)
    if server == "cluster":
        incus.become_cluster()
    else:
        monkeypatch.setattr(incus, "is_local", lambda: False)

    assert list(garbage.find(incus).pieces()) == []


def _lock(incus: FakeIncus, name: str, owner: Owner) -> str:
    profile = f"incus-testbed-lock-{hashlib.sha256(name.encode()).hexdigest()}"
    incus.create_profile(
        profile[:51], config={OWNER_KEY: str(owner)}, description=""
    )
    return profile[:51]


def test_locks_go_with_their_owners_on_a_server_of_many(
    incus: FakeIncus,
) -> None:
    gone = _lock(incus, "gone", owners.GONE)
    stay = {
        _lock(incus, "mine", owners.MINE),
        _lock(incus, "machine", owners.ON_ANOTHER_MACHINE),
        _lock(incus, "before", owners.REBOOTED),
    }
    incus.become_cluster()

    (piece,) = garbage.collect(incus).pieces()

    assert piece == ("lock", gone)
    assert {*shared_lock.owners(incus)} == stay


@pytest.fixture
def shared(incus: FakeIncus) -> FakeIncus:
    """Have something of each kind, of two machines, and of this one."""
    incus.become_cluster()
    for owner in (
        owners.MINE,
        owners.REBOOTED,
        owners.ON_ANOTHER_MACHINE,
        _THIRD,
    ):
        word = f"{owner.host[:4]}-{owner.boot[:4]}"
        _init(incus, f"of-{word}", owner)
        unnamed(incus, f"t/{word}", owner=owner)
        _claim(incus, owner)
        _lock(incus, word, owner)
    return incus


#: One more machine.
_THIRD = dataclasses.replace(owners.ON_ANOTHER_MACHINE, host="1" * 32)
_ONE_OF_EACH = {"instance": 1, "unfinished image": 1, "claim": 1, "lock": 1}


def test_what_other_machines_own_is_counted(shared: FakeIncus) -> None:
    found = garbage.find(shared)

    assert [*found.pieces()] == []
    assert found.elsewhere == {
        owners.MINE.host: _ONE_OF_EACH,
        owners.ON_ANOTHER_MACHINE.host: _ONE_OF_EACH,
        _THIRD.host: _ONE_OF_EACH,
    }


@pytest.mark.parametrize("owner", [_THIRD, owners.REBOOTED])
def test_a_machine_that_is_given_up_loses_all_and_no_other_does(
    shared: FakeIncus, owner: Owner
) -> None:
    """Of this machine, what a process of this boot owns stays."""
    pieces = [*garbage.collect(shared, lost=owner.host).pieces()]

    assert Counter(kind for kind, _ in pieces) == _ONE_OF_EACH
    left = garbage.find(shared)
    assert owner.host not in left.elsewhere
    assert len(left.elsewhere) == 2
    assert _instances(shared) >= {
        f"of-{owners.MINE.host[:4]}-{owners.MINE.boot[:4]}"
    }
    assert owners.MINE in shared_lock.owners(shared).values()


def test_an_image_of_a_lost_machine_stays_while_another_leases_it(
    incus: FakeIncus,
) -> None:
    image = unnamed(incus, "t/new", owner=_THIRD)
    name = _claim(incus, owners.ON_ANOTHER_MACHINE, image=image.fingerprint)

    garbage.collect(incus, lost=_THIRD.host)

    assert image.fingerprint in _fingerprints(incus)
    incus.delete_alias(name)
    _claim(incus, _THIRD, image=image.fingerprint)
    garbage.collect(incus, lost=_THIRD.host)
    assert image.fingerprint not in _fingerprints(incus)


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
    monkeypatch.setattr(garbage, "find", lambda *_, **__: found)

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
