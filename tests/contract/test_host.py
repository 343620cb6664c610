# SPDX-License-Identifier: GPL-3.0-or-later
"""Setting up a host: the same on a fake and on a real Incus."""

import os
from collections.abc import Iterator

import pytest

from incus_testbed import host
from incus_testbed.client import Incus
from tests.fake_incus import FakeIncus
from tests.sandbox import Sandbox

_SANDBOX = Sandbox.of(f"h{os.getpid()}")
_NAMES = _SANDBOX.names


@pytest.fixture(params=["fake", "real"])
def incus(request: pytest.FixtureRequest) -> Iterator[Incus]:
    """Give an Incus with nothing set up."""
    if request.param == "fake":
        yield FakeIncus()
        return
    request.getfixturevalue("incus_daemon")
    _SANDBOX.create_project()
    yield Incus(project=_SANDBOX.project)
    _SANDBOX.remove()


def _states(incus: Incus) -> dict[str, host.State]:
    return {
        report.requirement: report.finding.state
        for report in host.doctor(incus, _NAMES)
    }


def _setup(incus: Incus) -> list[tuple[str, ...]]:
    return list(host.setup(incus, _NAMES))


def test_doctor_names_what_is_absent_and_the_command(incus: Incus) -> None:
    reports = {
        report.requirement: report for report in host.doctor(incus, _NAMES)
    }

    for requirement, command in (
        (f"network {_NAMES.network}", "network create"),
        (f"storage pool {_NAMES.pool}", "storage create"),
        (f"profile {_NAMES.profile}", "profile create"),
    ):
        report = reports[requirement]
        assert report.finding.state is host.State.FAILED
        assert report.remedies[0].startswith("incus ")
        assert command in report.remedies[0]


def test_dry_run_says_what_setup_does_and_does_nothing(incus: Incus) -> None:
    before = _states(incus)

    planned = list(host.setup(incus, _NAMES, dry_run=True))

    assert _states(incus) == before
    assert _without_size(_setup(incus)) == _without_size(planned)


def _without_size(commands: list[tuple[str, ...]]) -> list[list[str]]:
    """Leave out the pool's size: the disk may fill meanwhile."""
    return [
        [word for word in command if not word.startswith("size=")]
        for command in commands
    ]


def test_setup_meets_what_doctor_asks(incus: Incus) -> None:
    _setup(incus)

    assert host.State.FAILED not in _states(incus).values()


def test_setup_makes_what_the_specification_says(incus: Incus) -> None:
    _setup(incus)

    profile = incus.profile(_NAMES.profile)
    assert profile["config"] == {"raw.lxc": "lxc.mount.auto=sys"}
    assert profile["devices"] == {
        "eth0": {"name": "host0", "network": _NAMES.network, "type": "nic"},
        "root": {"path": "/", "pool": _NAMES.pool, "type": "disk"},
    }
    pools = {pool["name"]: pool["driver"] for pool in incus.pools()}
    assert pools[_NAMES.pool] == "btrfs"


def test_setup_again_has_nothing_to_do(incus: Incus) -> None:
    _setup(incus)

    assert _setup(incus) == []


def test_setup_mends_the_profile_and_keeps_what_was_added(
    incus: Incus,
) -> None:
    _setup(incus)
    name = _NAMES.profile
    added = "lxc.log.level = 1"
    incus.run("profile", "set", name, f"raw.lxc={added}", "limits.cpu=2")
    incus.run("profile", "device", "set", name, "eth0", "name=other0")
    incus.run("profile", "device", "remove", name, "root")

    _setup(incus)

    profile = incus.profile(name)
    assert profile["config"] == {
        "raw.lxc": f"{added}\nlxc.mount.auto=sys",
        "limits.cpu": "2",
    }
    assert profile["devices"]["eth0"]["name"] == "host0"
    assert profile["devices"]["root"]["pool"] == _NAMES.pool


def test_an_unmanaged_interface_is_left_alone(incus: Incus) -> None:
    # Incus lists the host's own interfaces, and never creates or touches them.
    name = next(
        network["name"]
        for network in incus.networks()
        if not network["managed"]
    )
    names = host.Names(network=name, pool=_NAMES.pool)

    reports = {
        report.requirement: report for report in host.doctor(incus, names)
    }

    finding = reports[f"network {name}"].finding
    assert finding.state is host.State.FAILED
    assert "--network" in finding.advice
    assert not finding.fix
