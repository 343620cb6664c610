# SPDX-License-Identifier: GPL-3.0-or-later
"""A system service is let in to Incus; one that is not here is no matter."""

import grp
import os
import pwd

import pytest

from incus_testbed.host import doctor, service
from tests.support.fake_incus import FakeIncus

_USER = pwd.struct_passwd(("debusine-worker", "x", 64001, 64001, "", "/", "sh"))


@pytest.fixture(autouse=True)
def _users(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwd, "getpwall", lambda: [_USER])
    monkeypatch.setattr(
        grp,
        "getgrnam",
        lambda name: grp.struct_group((name, "x", 64002, [])),
    )


@pytest.mark.parametrize(
    ("groups", "state"),
    [
        ([64001], doctor.State.FAILED),
        ([64001, 64002], doctor.State.GOOD),
    ],
)
def test_membership(
    monkeypatch: pytest.MonkeyPatch, groups: list[int], state: doctor.State
) -> None:
    monkeypatch.setattr(os, "getgrouplist", lambda *_: groups)

    assert service.check(_USER, "x.service").state is state


def test_setup_says_what_lets_it_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getgrouplist", lambda *_: [])

    commands = list(doctor.setup(FakeIncus(), dry_run=True))

    assert ("adduser", "debusine-worker", "incus-admin") in commands


def test_the_group_of_one_user_is_no_obstacle_to_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    incus = FakeIncus()
    monkeypatch.setattr(pwd, "getpwall", list)
    list(doctor.setup(incus))
    monkeypatch.setattr(pwd, "getpwall", lambda: [_USER])
    monkeypatch.setattr(os, "getgrouplist", lambda *_: [])

    assert doctor.obstacles(incus, driver="lxc") == []
    (report,) = (
        report
        for report in doctor.doctor(incus)
        if report.requirement == "user debusine-worker"
    )
    assert report.finding.state is doctor.State.FAILED
    assert not report.drivers


def test_whom_incus_answers_needs_no_group(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 64001)

    assert service.check(_USER, "x.service").state is doctor.State.GOOD


def test_no_service_no_requirement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwd, "getpwall", list)

    assert service.requirements() == []
