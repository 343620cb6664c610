# SPDX-License-Identifier: GPL-3.0-or-later
"""A system service is let in to Incus; one that is not here is no matter."""

import grp
import os
import pwd
from collections.abc import Iterator
from typing import Any

import pytest

from incus_testbed.host import doctor, service, user
from tests.support.fake_incus import FakeIncus

_USER = pwd.struct_passwd(("debusine-worker", "x", 64001, 64001, "", "/", "sh"))
_GROUPS = {"incus": 64002, "incus-admin": 64003}


@pytest.fixture(autouse=True)
def admitted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Have the user of a worker; return who gets a project."""
    monkeypatch.setattr(pwd, "getpwall", lambda: [_USER])
    monkeypatch.setattr(
        grp,
        "getgrnam",
        lambda name: grp.struct_group((name, "x", _GROUPS[name], [])),
    )
    names: list[str] = []

    def admit(_: object, name: str, **__: Any) -> Iterator[tuple[str, ...]]:
        names.append(name)
        yield ("adduser", name, "incus")

    monkeypatch.setattr(user, "admit", admit)
    return names


def _is_in(monkeypatch: pytest.MonkeyPatch, *groups: str) -> None:
    numbers = [64001, *(_GROUPS[name] for name in groups)]
    monkeypatch.setattr(os, "getgrouplist", lambda *_: numbers)


def test_service_without_a_group_is_not_admitted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _is_in(monkeypatch)

    finding = service.check(_USER)

    assert finding.state is doctor.State.FAILED
    assert finding.advice == "incus-testbed setup --restricted debusine-worker"


def test_service_with_a_restricted_project(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _is_in(monkeypatch, "incus")

    assert service.check(_USER).state is doctor.State.GOOD


@pytest.mark.parametrize("groups", [("incus-admin",), ("incus", "incus-admin")])
def test_service_with_the_rights_of_root_is_told_how_to_end_that(
    monkeypatch: pytest.MonkeyPatch, groups: tuple[str, ...]
) -> None:
    _is_in(monkeypatch, *groups)

    finding = service.check(_USER)

    assert finding.state is doctor.State.WARNING
    assert finding.advice.startswith(
        "incus-testbed setup --restricted debusine-worker"
        " && gpasswd --delete debusine-worker incus-admin"
    )


@pytest.mark.parametrize(
    ("groups", "names"),
    [
        ((), ["debusine-worker"]),
        (("incus",), []),
        (("incus-admin",), []),
    ],
)
def test_setup_gives_a_project_to_a_service_that_has_no_access(
    monkeypatch: pytest.MonkeyPatch,
    admitted: list[str],
    groups: tuple[str, ...],
    names: list[str],
) -> None:
    _is_in(monkeypatch, *groups)

    commands = list(doctor.setup(FakeIncus(), dry_run=True))

    assert admitted == names
    assert not any("incus-admin" in command for command in commands)


def test_the_group_of_one_user_is_no_obstacle_to_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    incus = FakeIncus()
    monkeypatch.setattr(pwd, "getpwall", list)
    list(doctor.setup(incus))
    monkeypatch.setattr(pwd, "getpwall", lambda: [_USER])
    _is_in(monkeypatch)

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
    _is_in(monkeypatch)
    monkeypatch.setattr(os, "geteuid", lambda: 64001)

    assert service.check(_USER).state is doctor.State.GOOD


def test_no_service_no_requirement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pwd, "getpwall", list)

    assert service.requirements() == []
    assert service.unadmitted() == []
