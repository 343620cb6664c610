# SPDX-License-Identifier: GPL-3.0-or-later
"""What doctor and setup do for a user whom Incus keeps to one project."""

from typing import Any

import pytest

from incus_testbed import errors
from incus_testbed.host import doctor, restricted
from tests.support.fake_incus import FakeIncus

_REFUSED = errors.Restricted("Certificate is restricted")


class _Confined(FakeIncus):
    """The Incus of a member of the group incus."""

    def __init__(self) -> None:
        super().__init__()
        self.run("network", "create", "bridge")
        self.run("storage", "create", "default", "btrfs")
        device = ("profile", "device", "add", restricted.PROFILE)
        self.run(*device, "eth0", "nic", "network=bridge", "name=eth0")
        self.run(*device, "root", "disk", "pool=default", "path=/")
        self.settings["restricted"] = "true"

    def pools(self) -> list[dict[str, Any]]:
        """Refuse to list what is an admin's."""
        raise _REFUSED

    def networks(self) -> list[dict[str, Any]]:
        """Refuse to list what is an admin's."""
        raise _REFUSED


class _Confined7(_Confined):
    """The same of Incus 7, which lists what it does not describe."""

    def pools(self) -> list[dict[str, Any]]:
        """List them without their settings."""
        return [{"name": "default", "driver": "btrfs", "config": {}}]

    def networks(self) -> list[dict[str, Any]]:
        """List them without their settings."""
        return [{"name": "bridge", "config": {}, "managed": True}]

    def server(self, *, member: str = "") -> dict[str, Any]:
        """Say how incus-user's requests come."""
        return {**super().server(member=member), "auth_user_method": "tls"}


_EACH = pytest.mark.parametrize("kind", [_Confined, _Confined7])


def _reports(incus: FakeIncus) -> dict[str, doctor.Report]:
    return {report.requirement: report for report in doctor.doctor(incus)}


@_EACH
def test_what_belongs_to_the_admin_is_one_line(kind: type[_Confined]) -> None:
    reports = _reports(kind())

    absent = {"network bridge", "storage pool default", "network access"}
    assert not absent & reports.keys()
    finding = reports["restricted project"].finding
    assert finding.state is doctor.State.GOOD
    assert "its network bridge and its storage pool default" in finding.detail


@_EACH
def test_setup_makes_profiles_that_the_project_allows(
    kind: type[_Confined],
) -> None:
    incus = kind()

    commands = list(doctor.setup(incus))

    assert {command[1] for command in commands} == {"profile"}
    profile = incus.profile("debusine")
    assert profile["config"] == {"security.nesting": "true"}
    assert profile["devices"]["eth0"] == {
        "type": "nic",
        "name": "host0",
        "network": "bridge",
        "security.mac_filtering": "true",
        "security.port_isolation": "true",
    }
    assert profile["devices"]["root"]["pool"] == "default"
    assert list(doctor.setup(incus)) == []
    assert doctor.obstacles(incus, driver="lxc") == []


def test_project_in_which_the_admin_allows_raw_settings_gets_them() -> None:
    incus = _Confined()
    incus.settings["restricted.containers.lowlevel"] = "allow"

    list(doctor.setup(incus))

    assert "raw.lxc" in incus.profile("debusine")["config"]


def test_project_without_a_network_is_for_its_admin_to_mend() -> None:
    incus = _Confined()
    incus.run("profile", "device", "remove", restricted.PROFILE, "eth0")

    report = _reports(incus)["restricted project"]

    assert report.is_obstacle("lxc")
    assert "setup --restricted" in report.finding.advice
    with pytest.raises(errors.Unsupported, match="has no network"):
        list(doctor.setup(incus))


def test_pool_that_is_almost_full_is_said() -> None:
    incus = _Confined()
    incus.free = 100 << 20

    finding = _reports(incus)["restricted project"].finding

    assert finding.state is doctor.State.WARNING


@pytest.mark.parametrize(
    "refusal", [errors.Denied("no"), errors.DaemonDown("nobody")]
)
def test_other_refusals_say_nothing_of_a_project(
    monkeypatch: pytest.MonkeyPatch, refusal: errors.TestbedError
) -> None:
    incus = _Confined()

    def refuse() -> None:
        raise refusal

    monkeypatch.setattr(incus, "pools", refuse)

    assert not restricted.is_confined(incus)
