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
    named(incus, "tarball/a")

    assert eviction.evict(incus) == []

    assert _left(incus) == ["tarball/a"]


def test_the_oldest_go_until_so_many_are_left(incus: FakeIncus) -> None:
    for name in "abcd":
        named(incus, f"tarball/{name}")

    gone = eviction.evict(incus, keep=2)

    assert _aliases(gone) == ["tarball/a", "tarball/b"]
    assert _left(incus) == ["tarball/c", "tarball/d"]
    assert not _has_claims(incus)


def test_a_launch_makes_an_image_one_of_the_latest(incus: FakeIncus) -> None:
    for name in "abc":
        named(incus, f"tarball/{name}")
    incus.run("init", "tarball/a", "user")
    incus.delete("user")

    assert _aliases(eviction.evict(incus, keep=1)) == ["tarball/b", "tarball/c"]

    assert _left(incus) == ["tarball/a"]


@pytest.mark.parametrize(("room", "left"), [(0, 2), (-1, 1)])
def test_the_oldest_go_until_the_others_fit(
    incus: FakeIncus, room: int, left: int
) -> None:
    images = [
        named(incus, f"tarball/{name}", unpacked=1 << 30) for name in "abc"
    ]
    two = sum(image.size + (1 << 30) for image in images[1:])

    eviction.evict(incus, max_bytes=two + room)

    assert _left(incus) == ["tarball/a", "tarball/b", "tarball/c"][-left:]


def test_both_bounds_hold(incus: FakeIncus) -> None:
    image = named(incus, "tarball/a")
    named(incus, "tarball/b")

    eviction.evict(incus, keep=2, max_bytes=image.size * 1.5)

    assert _left(incus) == ["tarball/b"]


def test_a_dry_run_says_the_same_and_removes_nothing(
    incus: FakeIncus,
) -> None:
    for name in "abc":
        named(incus, f"tarball/{name}")
    incus.run("init", "tarball/a", "user")
    incus.run("init", "tarball/b", "gone")
    incus.delete("gone")

    foreseen = eviction.evict(incus, keep=0, dry_run=True)

    assert _left(incus) == ["tarball/a", "tarball/b", "tarball/c"]
    assert _aliases(foreseen) == ["tarball/c", "tarball/b"]
    assert eviction.evict(incus, keep=0) == foreseen
    assert _left(incus) == ["tarball/a"]


def _not_evictable(incus: Incus) -> None:
    named(incus, "tarball/a", evictable=False)


def _with_a_second_name(incus: Incus) -> None:
    incus.create_alias("tarball/mine", named(incus, "tarball/a").fingerprint)


def _not_ours(incus: Incus) -> None:
    named(incus, "tarball/a", ours=False)


def _in_an_instance(incus: Incus) -> None:
    incus.run("init", named(incus, "tarball/a").fingerprint, "user")


def _leased(incus: Incus) -> None:
    named(incus, "tarball/a")
    lease.take(incus, "tarball/a")


@pytest.mark.parametrize(
    "keep",
    [_not_evictable, _with_a_second_name, _not_ours, _in_an_instance, _leased],
)
def test_what_is_wanted_stays(
    incus: FakeIncus, keep: Callable[[Incus], None]
) -> None:
    keep(incus)
    before = _left(incus)
    named(incus, "tarball/other")

    gone = eviction.evict(incus, keep=0, max_bytes=0)

    assert _aliases(gone) == ["tarball/other"]
    assert _left(incus) == before


def test_what_stays_counts(incus: FakeIncus) -> None:
    for name in "abc":
        named(incus, f"tarball/{name}")
    held = lease.take(incus, "tarball/a")

    assert _aliases(eviction.evict(incus, keep=2)) == ["tarball/b"]

    held.release()
    assert _aliases(eviction.evict(incus, keep=1)) == ["tarball/a"]


def test_the_lease_of_a_process_that_is_gone_keeps_nothing(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(incus, "tarball/a")
    with monkeypatch.context() as patch:
        patch.setattr(Owner, "current", lambda: owners.GONE)
        lease.take(incus, "tarball/a")

    assert _aliases(eviction.evict(incus, keep=0)) == ["tarball/a"]


def test_a_lease_between_look_and_claim_wins(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = named(incus, "tarball/a")
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
    named(incus, "tarball/a")
    lease.take(incus, "tarball/a")
    monkeypatch.setattr(claim, "stake", None)

    assert eviction.evict(incus, keep=0) == []


def test_a_dry_run_counts_what_another_has_removed_as_gone(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = named(incus, "tarball/a")
    named(incus, "tarball/b")
    found = eviction.evictable(incus)
    incus.delete_image(image.fingerprint)
    monkeypatch.setattr(eviction, "evictable", lambda _: found)

    assert _aliases(eviction.evict(incus, keep=0, dry_run=True)) == [
        *("tarball/a", "tarball/b"),
    ]


@pytest.mark.parametrize("when", ["before", "claimed"])
def test_what_another_has_removed_is_gone(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    image = named(incus, "tarball/a")
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
    named(incus, "tarball/a")

    def fail(_: str) -> None:
        raise errors.DaemonDown("Incus is restarted")

    monkeypatch.setattr(incus, "delete_image", fail)

    with pytest.raises(errors.DaemonDown):
        eviction.evict(incus, keep=0)

    assert _left(incus) == ["tarball/a"]
    assert not _has_claims(incus)
