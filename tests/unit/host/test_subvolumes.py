# SPDX-License-Identifier: GPL-3.0-or-later
"""A profile that keeps testbeds from making subvolumes."""

from pathlib import Path

import pytest

from incus_testbed.host import pool, subvolumes
from incus_testbed.host.requirement import Finding, State
from tests.support.fake_incus import FakeIncus

_RULE = "kexec_load errno 38"


@pytest.fixture
def incus() -> FakeIncus:
    """Give an Incus that has the profile."""
    made = FakeIncus()
    made.run("profile", "create", "debusine")
    return made


def _check(incus: FakeIncus, driver: str = "btrfs") -> Finding:
    return subvolumes.check(incus, "debusine", driver=driver)


def _set(incus: FakeIncus, setting: str) -> None:
    incus.run("profile", "set", "debusine", setting)


def test_the_rules_are_added(incus: FakeIncus) -> None:
    found = _check(incus)
    assert found.state is State.FAILED
    ((_, *words),) = found.fix
    incus.run(*words)
    assert _check(incus).state is State.GOOD
    added = incus.profile("debusine")["config"]["security.syscalls.deny"]
    _set(incus, f"security.syscalls.deny={_RULE}\n{added}")
    assert _check(incus).state is State.GOOD


@pytest.mark.parametrize("key", ["deny", "allow"])
def test_an_admins_own_rules_stay(incus: FakeIncus, key: str) -> None:
    _set(incus, f"security.syscalls.{key}={_RULE}")
    found = _check(incus)
    assert (found.state, found.fix) == (State.WARNING, ())
    assert "0x940e" in found.advice


def test_an_admin_wants_no_limits(incus: FakeIncus) -> None:
    _set(incus, "user.incus-testbed.limits=none")
    assert _check(incus).state is State.GOOD


def test_other_drivers_have_none(incus: FakeIncus) -> None:
    assert _check(incus, "zfs").state is State.GOOD


def test_a_profile_that_is_to_be_made() -> None:
    assert _check(FakeIncus()).state is State.FAILED


def test_where_none_can_be_made(tmp_path: Path) -> None:
    """No answer is not an answer: an admin may do what this user can't."""
    assert not subvolumes.can_be_made(Path("/proc"))
    assert subvolumes.can_be_made(tmp_path / "absent")


@pytest.mark.parametrize(("can", "driver"), [(True, "btrfs"), (False, "dir")])
def test_the_pool_of_a_testbed(
    monkeypatch: pytest.MonkeyPatch, can: bool, driver: str
) -> None:
    """A testbed on btrfs has a file system of that kind, but can't use it."""
    monkeypatch.setattr(pool, "_file_system", lambda _: "btrfs")
    monkeypatch.setattr(subvolumes, "can_be_made", lambda _: can)
    assert pool.driver_of(FakeIncus(), "default", local=True) == driver
