# SPDX-License-Identifier: GPL-3.0-or-later
"""Which images make room for others, and in which order."""

from collections.abc import Callable

import pytest

from incus_testbed import errors
from incus_testbed.cleanup import eviction
from incus_testbed.image import properties
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import CLAIM, Image
from incus_testbed.ownership import claim, lease
from incus_testbed.ownership.claim import Kind
from incus_testbed.ownership.owner import Owner
from tests.support import owners
from tests.support.fake_incus import FakeIncus
from tests.support.imported import named


@pytest.fixture
def incus() -> FakeIncus:
    return FakeIncus.set_up()


def _left(incus: Incus) -> list[str]:
    return sorted(alias for image in incus.images() for alias in image.aliases)


def _aliases(images: list[Image]) -> list[str]:
    return [alias for image in images for alias in image.aliases]


def _has_claims(incus: Incus) -> bool:
    return any(image.claims for image in incus.images())


def test_without_bounds_nothing_goes(incus: FakeIncus) -> None:
    named(incus, "t/a")

    assert eviction.evict(incus) == []

    assert _left(incus) == ["t/a"]


def test_the_oldest_go_until_so_many_are_left(incus: FakeIncus) -> None:
    for name in "abcd":
        named(incus, f"t/{name}")

    gone = eviction.evict(incus, keep=2)

    assert _aliases(gone) == ["t/a", "t/b"]
    assert _left(incus) == ["t/c", "t/d"]
    assert not _has_claims(incus)


def test_a_launch_makes_an_image_one_of_the_latest(incus: FakeIncus) -> None:
    for name in "abc":
        named(incus, f"t/{name}")
    incus.run("init", "t/a", "user")
    incus.delete("user")

    assert _aliases(eviction.evict(incus, keep=1)) == ["t/b", "t/c"]

    assert _left(incus) == ["t/a"]


@pytest.mark.parametrize(("room", "left"), [(0, 2), (-1, 1)])
def test_the_oldest_go_until_the_others_fit(
    incus: FakeIncus, room: int, left: int
) -> None:
    images = [named(incus, f"t/{name}", unpacked=1 << 30) for name in "abc"]
    two = sum(image.size + (1 << 30) for image in images[1:])

    eviction.evict(incus, max_bytes=two + room)

    assert _left(incus) == ["t/a", "t/b", "t/c"][-left:]


def test_both_bounds_hold(incus: FakeIncus) -> None:
    image = named(incus, "t/a")
    named(incus, "t/b")

    eviction.evict(incus, keep=2, max_bytes=image.size * 1.5)

    assert _left(incus) == ["t/b"]


def test_a_dry_run_says_the_same_and_removes_nothing(
    incus: FakeIncus,
) -> None:
    for name in "abc":
        named(incus, f"t/{name}")
    incus.run("init", "t/a", "user")
    incus.run("init", "t/b", "gone")
    incus.delete("gone")

    foreseen = eviction.evict(incus, keep=0, dry_run=True)

    assert _left(incus) == ["t/a", "t/b", "t/c"]
    assert _aliases(foreseen) == ["t/c", "t/b"]
    assert eviction.evict(incus, keep=0) == foreseen
    assert _left(incus) == ["t/a"]


def _not_evictable(incus: Incus) -> None:
    named(incus, "t/a", evictable=False)


def _with_a_second_name(incus: Incus) -> None:
    incus.create_alias("t/mine", named(incus, "t/a").fingerprint)


def _not_ours(incus: Incus) -> None:
    named(incus, "t/a", ours=False)


def _in_an_instance(incus: Incus) -> None:
    incus.run("init", named(incus, "t/a").fingerprint, "user")


def _leased(incus: Incus) -> None:
    named(incus, "t/a")
    lease.take(incus, "t/a")


@pytest.mark.parametrize(
    "keep",
    [_not_evictable, _with_a_second_name, _not_ours, _in_an_instance, _leased],
)
def test_what_is_wanted_stays(
    incus: FakeIncus, keep: Callable[[Incus], None]
) -> None:
    keep(incus)
    before = _left(incus)
    named(incus, "t/other")

    gone = eviction.evict(incus, keep=0, max_bytes=0)

    assert _aliases(gone) == ["t/other"]
    assert _left(incus) == before


def test_what_stays_counts(incus: FakeIncus) -> None:
    for name in "abc":
        named(incus, f"t/{name}")
    held = lease.take(incus, "t/a")

    assert _aliases(eviction.evict(incus, keep=2)) == ["t/b"]

    held.release()
    assert _aliases(eviction.evict(incus, keep=1)) == ["t/a"]


def test_the_lease_of_a_process_that_is_gone_keeps_nothing(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(incus, "t/a")
    with monkeypatch.context() as patch:
        patch.setattr(Owner, "current", lambda: owners.GONE)
        lease.take(incus, "t/a")

    assert _aliases(eviction.evict(incus, keep=0)) == ["t/a"]


def test_a_lease_between_look_and_claim_wins(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = named(incus, "t/a")
    stake = claim.stake

    def late(incus: Incus, fingerprint: str, kind: Kind) -> str:
        stake(incus, fingerprint, Kind.USE)
        return stake(incus, fingerprint, kind)

    monkeypatch.setattr(claim, "stake", late)

    assert eviction.evict(incus, keep=0) == []

    (name,) = incus.image(image.fingerprint).claims
    assert name.startswith(f"{CLAIM}use/")


def test_an_image_in_use_is_not_claimed(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever wants a lease on it would have to wait."""
    named(incus, "t/a")
    lease.take(incus, "t/a")
    monkeypatch.setattr(claim, "stake", None)

    assert eviction.evict(incus, keep=0) == []


def test_a_dry_run_counts_what_another_has_removed_as_gone(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = named(incus, "t/a")
    named(incus, "t/b")
    listed = [incus.images()]
    list_ = incus.images
    incus.delete_image(image.fingerprint)
    monkeypatch.setattr(
        incus, "images", lambda: listed.pop() if listed else list_()
    )

    assert _aliases(eviction.evict(incus, keep=0, dry_run=True)) == [
        *("t/a", "t/b"),
    ]


@pytest.mark.parametrize("when", ["before", "claimed"])
def test_what_another_has_removed_is_gone(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    image = named(incus, "t/a")
    stake = claim.stake

    def overtaken(incus: Incus, fingerprint: str, kind: Kind) -> str:
        name = stake(incus, fingerprint, kind)
        incus.delete_image(fingerprint)
        return name

    if when == "before":
        incus.delete_image(image.fingerprint)
    else:
        monkeypatch.setattr(claim, "stake", overtaken)

    assert eviction.remove_unused(incus, image, properties.is_evictable)


def test_a_removal_that_fails_gives_the_claim_up(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(incus, "t/a")

    def fail(_: str) -> None:
        raise errors.DaemonDown("Incus is restarted")

    monkeypatch.setattr(incus, "delete_image", fail)

    with pytest.raises(errors.DaemonDown):
        eviction.evict(incus, keep=0)

    assert _left(incus) == ["t/a"]
    assert not _has_claims(incus)
