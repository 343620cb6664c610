# SPDX-License-Identifier: GPL-3.0-or-later
"""An image is brought up to date whole, or it stays as it was."""

import io
import threading
from datetime import timedelta
from typing import Any

import pytest

from incus_testbed import errors
from incus_testbed.cleanup import garbage
from incus_testbed.image import properties
from incus_testbed.image.store import Store
from incus_testbed.ownership import claim, lease
from incus_testbed.ownership.owner import judge
from incus_testbed.refresh.refresh import ensure, refresh
from tests.support import owners, tiny_guest, tiny_system
from tests.support.imported import named, unnamed
from tests.unit.refresh.conftest import GuestIncus

_ALIAS = "t/a"
_DAY = timedelta(days=1)


def test_the_new_image_has_the_labels_of_the_old_one(incus: GuestIncus) -> None:
    old = named(incus, _ALIAS, evictable=True)
    steps: list[str] = []

    assert refresh(incus, _ALIAS, on_step=steps.append)

    (image,) = incus.images()
    assert image.fingerprint != old.fingerprint
    assert image.aliases == (_ALIAS,)
    assert image.profiles == old.profiles
    for label in ("os", "release", "description", "artifact_id"):
        assert image.properties[label] == old.properties[label]
    assert properties.is_evictable(image)
    assert properties.is_ours(image)
    assert properties.unpacked_size(image)
    assert incus.instances() == []
    assert incus.verbs == ["update", "dist-upgrade", "autoremove", "clean"]
    assert incus.ran[0] == ["apt.sh", "update", "http_proxy=http://p:1"]
    assert incus.ran[-1] == ["forget.sh"]
    assert list(dict.fromkeys(steps)) == [
        "booting",
        *(f"apt-get {verb}" for verb in incus.verbs),
        "making the image",
    ]


def test_a_refresh_of_all_machines_is_one(
    incus: GuestIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(incus, _ALIAS)
    incus.become_cluster()
    create = incus.create_profile
    made: list[str] = []

    def refreshed_elsewhere(name: str, **facts: Any) -> None:
        """Have another machine hold the lock until its refresh is done."""
        made.append(name)
        if len(made) == 1:
            incus.delete_image(incus.image(_ALIAS).fingerprint)
            named(incus, _ALIAS, source="1" * 64)
            raise errors.AlreadyExists("The profile is there")
        create(name, **facts)

    monkeypatch.setattr(incus, "create_profile", refreshed_elsewhere)

    assert not refresh(incus, _ALIAS)
    assert len(made) == 1
    assert incus.ran == []


@pytest.mark.parametrize(
    "failing", ["update", "dist-upgrade", "autoremove", "forget.sh", "export"]
)
def test_a_failure_leaves_the_old_image(
    incus: GuestIncus, failing: str
) -> None:
    old = named(incus, _ALIAS)
    incus.failing = failing

    with pytest.raises(errors.CommandFailed) as caught:
        refresh(incus, _ALIAS)

    (image,) = incus.images()
    assert (image.fingerprint, image.aliases) == (old.fingerprint, old.aliases)
    assert incus.instances() == []
    assert f"{_ALIAS} is as it was" in caught.value.resolution


def test_the_end_of_what_apt_said_is_shown(incus: GuestIncus) -> None:
    named(incus, _ALIAS)
    incus.failing = "update"

    with pytest.raises(errors.CommandFailed) as caught:
        ensure(incus, _ALIAS, timedelta())

    assert caught.value.brief.startswith("apt-get update failed")
    assert "E: the mirror\\x1b[1m is away" in caught.value.details
    assert "leave out --max-age" in caught.value.resolution


def test_an_image_that_is_young_enough_stays(incus: GuestIncus) -> None:
    named(incus, _ALIAS)
    before = incus.images()

    assert not refresh(incus, _ALIAS, max_age=_DAY)
    ensure(incus, _ALIAS, _DAY)

    assert incus.images() == before
    assert incus.ran == []


def test_of_two_at_once_one_does_it(incus: GuestIncus) -> None:
    named(incus, _ALIAS)
    waits = threading.Event()
    outcome: list[bool] = []
    second = threading.Thread(
        target=lambda: outcome.append(
            refresh(incus, _ALIAS, on_step=lambda _: waits.set())
        )
    )

    def start_second() -> None:
        incus.before_each = lambda: None
        second.start()
        assert waits.wait(30)

    incus.before_each = start_second

    assert refresh(incus, _ALIAS)

    second.join(30)
    assert outcome == [False]
    assert incus.verbs.count("update") == 1
    assert len(incus.images()) == 1


@pytest.mark.parametrize("alias", ["artifact/42", "tarball/0123456789abcdef"])
def test_the_image_of_a_file_stays_that_of_the_file(
    incus: GuestIncus, alias: str
) -> None:
    named(incus, alias)
    before = incus.images()

    with pytest.raises(errors.Unsupported, match="named for the file"):
        refresh(incus, alias)

    assert incus.images() == before


def test_what_is_not_there_or_not_ours(incus: GuestIncus) -> None:
    with pytest.raises(errors.NotFound):
        refresh(incus, _ALIAS)
    named(incus, _ALIAS, ours=False)
    with pytest.raises(errors.Denied):
        refresh(incus, _ALIAS)
    assert incus.ran == []


def test_a_virtual_machine(
    incus: GuestIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = tiny_guest.write
    monkeypatch.setattr(
        tiny_guest, "write", lambda *a, **k: write(*a, disk=True, **k)
    )
    named(incus, _ALIAS)

    with pytest.raises(errors.Unsupported, match="virtual machines"):
        refresh(incus, _ALIAS)

    assert incus.ran == []


def test_a_generator_of_the_user_is_not_lost(incus: GuestIncus) -> None:
    Store(incus).add(
        io.BytesIO(tiny_system.tarball()), _ALIAS, generator=b"#!/bin/sh"
    )

    with pytest.raises(errors.Unsupported, match="--generator"):
        refresh(incus, _ALIAS)

    assert incus.ran == []


def test_an_old_image_with_a_lease_goes_when_the_lease_does(
    incus: GuestIncus,
) -> None:
    old = unnamed(incus, _ALIAS, owner=owners.GONE)
    incus.create_alias(_ALIAS, old.fingerprint)
    leased = lease.take(incus, _ALIAS)

    refresh(incus, _ALIAS)
    garbage.collect(incus)

    assert old.fingerprint in {each.fingerprint for each in incus.images()}
    assert incus.image(_ALIAS).fingerprint != old.fingerprint
    leased.release()
    garbage.collect(incus)
    assert old.fingerprint not in {each.fingerprint for each in incus.images()}
    assert not any(
        claim.stands(each, claim.Kind.USE, judge(incus.is_only_here))
        for each in incus.images()
    )
