# SPDX-License-Identifier: GPL-3.0-or-later
"""A lease keeps the image that an alias names."""

import time
from collections.abc import Callable

import pytest

from incus_testbed import errors
from incus_testbed.cleanup import garbage
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import CLAIM, Image
from incus_testbed.ownership import lease
from incus_testbed.ownership.claim import GRACE, Kind
from incus_testbed.ownership.owner import Owner
from tests.support import owners
from tests.support.fake_incus import FakeIncus
from tests.support.imported import named

_ALIAS = "t/a"
_Event = Callable[[], object]


class _Eventful(FakeIncus):
    """Something happens before, or after, an alias is made."""

    def __init__(self) -> None:
        super().__init__()
        self.before: _Event = int
        self.after: _Event = int
        #: How often it happens.
        self.times = 1

    def create_alias(
        self, alias: str, fingerprint: str, *, description: str = ""
    ) -> None:
        happens = alias.startswith(CLAIM) and self.times > 0
        self.times -= happens
        if happens:
            self.before()
        super().create_alias(alias, fingerprint, description=description)
        if happens:
            self.after()


@pytest.fixture
def incus() -> _Eventful:
    incus = _Eventful.set_up()
    named(incus, _ALIAS)
    return incus


def _claims(incus: Incus) -> list[str]:
    return [name for image in incus.images() for name in image.claims]


def _claim_for_removal(incus: _Eventful, owner: Owner, age: float = 0) -> str:
    name = f"{CLAIM}{Kind.REMOVAL}/1"
    FakeIncus.create_alias(
        incus,
        name,
        incus.image(_ALIAS).fingerprint,
        description=f"{owner} {time.time() - age:.0f}",
    )
    return name


def _replaced(incus: Incus, count: list[Image]) -> None:
    """Give the alias to another image; the first one is left."""
    incus.delete_alias(_ALIAS)
    made = named(incus, f"t/b{len(count)}")
    incus.create_alias(_ALIAS, made.fingerprint)
    count.append(made)


def test_a_lease_is_on_the_image_until_it_is_released(
    incus: _Eventful,
) -> None:
    held = lease.take(incus, _ALIAS)

    assert held.image.fingerprint == incus.image(_ALIAS).fingerprint
    assert _claims(incus) == [held.name]
    held.release()
    assert _claims(incus) == []
    assert incus.image(_ALIAS)


def test_leases_are_released_one_by_one(incus: _Eventful) -> None:
    first, second = (lease.take(incus, _ALIAS) for _ in range(2))

    first.release()
    first.release()

    assert _claims(incus) == [second.name]


def test_a_lease_can_be_released_when_the_image_is_gone(
    incus: _Eventful,
) -> None:
    held = lease.take(incus, _ALIAS)
    incus.delete_image(held.image.fingerprint)

    held.release()


@pytest.mark.parametrize("by", ["alias", "fingerprint"])
def test_without_an_alias_there_is_nothing_to_lease(
    incus: _Eventful, by: str
) -> None:
    word = "t/absent" if by == "alias" else incus.image(_ALIAS).fingerprint

    with pytest.raises(errors.NotFound, match=word):
        lease.take(incus, word)

    assert _claims(incus) == []


def test_the_image_is_removed_before_it_is_claimed(incus: _Eventful) -> None:
    def replace() -> None:
        incus.delete_image(incus.image(_ALIAS).fingerprint)
        named(incus, _ALIAS, source="1" * 64)

    incus.before = replace

    held = lease.take(incus, _ALIAS)

    assert held.image.fingerprint == incus.image(_ALIAS).fingerprint
    assert _claims(incus) == [held.name]


def test_the_alias_moves_before_the_image_is_claimed(
    incus: _Eventful,
) -> None:
    made: list[Image] = []
    incus.after = lambda: _replaced(incus, made)

    held = lease.take(incus, _ALIAS)

    assert held.image.fingerprint == made[0].fingerprint
    assert _claims(incus) == [held.name]


def test_the_alias_moves_again_and_again(incus: _Eventful) -> None:
    made: list[Image] = []
    incus.after, incus.times = lambda: _replaced(incus, made), 1000

    with pytest.raises(errors.Busy, match="again and again"):
        lease.take(incus, _ALIAS)

    assert _claims(incus) == []


def test_an_image_that_is_removed_is_waited_for(
    incus: _Eventful, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = _claim_for_removal(incus, owners.MINE)
    naps = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            incus.delete_alias(name)

    monkeypatch.setattr(time, "sleep", sleep)

    held = lease.take(incus, _ALIAS)

    assert len(naps) == 3
    assert _claims(incus) == [held.name]


def test_an_image_that_is_removed_while_waiting(
    incus: _Eventful, monkeypatch: pytest.MonkeyPatch
) -> None:
    _claim_for_removal(incus, owners.MINE)
    fingerprint = incus.image(_ALIAS).fingerprint
    monkeypatch.setattr(
        time, "sleep", lambda _: incus.delete_image(fingerprint)
    )

    with pytest.raises(errors.NotFound):
        lease.take(incus, _ALIAS)


def test_a_removal_that_takes_too_long(
    incus: _Eventful, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = _claim_for_removal(incus, owners.MINE)
    nap, left = time.sleep, iter(range(100))

    def sleep(seconds: float) -> None:
        assert next(left, None) is not None, "it waits for ever"
        nap(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(lease, "INSTANCE_LIMIT", 0.1)

    with pytest.raises(errors.TimedOut, match=_ALIAS):
        lease.take(incus, _ALIAS)

    assert _claims(incus) == [name]


def test_a_removal_by_a_machine_that_is_gone(
    incus: _Eventful, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only an admin can know that it is."""
    _claim_for_removal(incus, owners.ON_ANOTHER_MACHINE, GRACE + 2)
    monkeypatch.setattr(lease, "INSTANCE_LIMIT", 0.1)

    with pytest.raises(errors.TimedOut) as caught:
        lease.take(incus, _ALIAS)

    lost = owners.ON_ANOTHER_MACHINE
    assert f"gc --host={lost.host_id}" in caught.value.resolution
    garbage.collect(incus, lost=lost.host)
    assert lease.take(incus, _ALIAS)


def test_an_interrupted_wait_leaves_no_claim(
    incus: _Eventful, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = _claim_for_removal(incus, owners.MINE)

    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupt)

    with pytest.raises(KeyboardInterrupt):
        lease.take(incus, _ALIAS)

    assert _claims(incus) == [name]


def test_the_claim_of_a_killed_evictor_holds_nobody_up(
    incus: _Eventful, monkeypatch: pytest.MonkeyPatch
) -> None:
    _claim_for_removal(incus, owners.GONE, GRACE + 2)
    monkeypatch.setattr(time, "sleep", None)

    assert lease.take(incus, _ALIAS).image.aliases == (_ALIAS,)
