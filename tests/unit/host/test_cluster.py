# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster is set up as a whole, and each member is looked at."""

from typing import Any

import pytest

from incus_testbed import errors
from incus_testbed.host import doctor, pool, subnet
from incus_testbed.host.doctor import State
from tests.support.fake_incus import FakeIncus


@pytest.fixture
def incus() -> FakeIncus:
    """Give a cluster of two in which nothing is set up."""
    return FakeIncus(members=("one", "two"))


def _finding(incus: FakeIncus, requirement: str) -> doctor.Finding:
    return next(
        report.finding
        for report in doctor.doctor(incus)
        if report.requirement == requirement
    )


def _creations(incus: FakeIncus, *, dry_run: bool) -> list[tuple[str, ...]]:
    made = {("network", "create"), ("storage", "create")}
    commands = doctor.setup(incus, dry_run=dry_run)
    return [words for words in commands if words[1:3] in made]


def test_setup_makes_a_piece_for_each_member_and_then_the_whole(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool, "_free_space", lambda: 40)
    planned = _creations(incus, dry_run=True)

    done = _creations(incus, dry_run=False)

    assert done == planned
    assert [words[-1] for words in done[:2]] == ["--target=one", "--target=two"]
    assert [words[-1] for words in done[3:5]] == [
        "--target=one",
        "--target=two",
    ]
    for kind, name in (("network", "debusinebr0"), ("storage", "default")):
        thing = incus.objects[kind][name]
        assert thing["status"] == "Created"
        assert thing["locations"] == ["one", "two"]
    assert (
        "/" in incus.objects["network"]["debusinebr0"]["config"]["ipv4.address"]
    )
    assert list(doctor.setup(incus)) == []


def test_setup_goes_on_where_another_has_stopped(incus: FakeIncus) -> None:
    incus.run("network", "create", "debusinebr0", "--target=two")
    incus.run("storage", "create", "default", "dir", "--target=one")

    assert "not complete" in _finding(incus, "network debusinebr0").detail
    assert _finding(incus, "storage pool default").state is State.FAILED
    list(doctor.setup(incus))

    assert _finding(incus, "network debusinebr0").state is State.GOOD
    assert incus.objects["storage"]["default"]["driver"] == "dir"
    assert incus.objects["storage"]["default"]["status"] == "Created"


def test_the_driver_is_one_that_all_members_support(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = incus.server

    def server(*, member: str = "") -> dict[str, object]:
        said = real(member=member)
        if member == "two":
            drivers = said["environment"]["storage_supported_drivers"]
            said["environment"]["storage_supported_drivers"] = drivers[:1]
        return said

    monkeypatch.setattr(incus, "server", server)

    list(doctor.setup(incus))

    assert incus.objects["storage"]["default"]["driver"] == "dir"


def test_setup_says_what_to_do_if_a_member_can_not_make_its_piece(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Incus then has a pool that is not complete, and says why."""
    real = incus.run

    def run(*words: str, **options: Any) -> bytes:
        if words[:2] == ("storage", "create") and "--target" not in words[-1]:
            incus.objects["storage"]["default"]["status"] = "Errored"
            raise errors.CommandFailed("failed", details="no loop device")
        return real(*words, **options)

    monkeypatch.setattr(incus, "run", run)

    with pytest.raises(errors.CommandFailed, match="no loop device") as said:
        list(doctor.setup(incus))

    assert "--target MEMBER" in said.value.resolution


def test_setup_names_the_member_that_does_not_answer(incus: FakeIncus) -> None:
    incus.machines.statuses["two"] = "Offline"

    with pytest.raises(errors.Unsupported, match="two does not answer") as said:
        list(doctor.setup(incus))

    assert "incus cluster remove --force two" in said.value.resolution


@pytest.mark.parametrize(
    ("status", "remedy"),
    [
        ("Offline", "Start two"),
        ("Evacuated", "incus cluster restore two"),
        ("Blocked", "Upgrade Incus"),
    ],
)
def test_doctor_names_a_member_that_takes_no_testbeds(
    incus: FakeIncus, status: str, remedy: str
) -> None:
    list(doctor.setup(incus))
    incus.machines.statuses["two"] = status

    finding = _finding(incus, "member two")

    assert finding.state is State.WARNING
    assert remedy in finding.advice
    assert _finding(incus, "member one").state is State.GOOD
    # Testbeds run on the others.
    assert doctor.obstacles(incus, driver="lxc") == []


def test_free_space_is_that_of_the_fullest_member(incus: FakeIncus) -> None:
    list(doctor.setup(incus))
    incus.machines.free["two"] = 100 << 20

    finding = _finding(incus, "storage pool default")

    assert finding.state is State.WARNING
    assert "0.1 GiB are free in it on two" in finding.detail


def test_limits_fit_the_smallest_member(incus: FakeIncus) -> None:
    incus.machines.memory["two"] = 4 << 30

    list(doctor.setup(incus))

    config = incus.profile("debusine")["config"]
    assert config["limits.memory"] == "3072MiB"


def test_testbeds_reach_no_member(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A member writes its own addresses down; of others it knows one."""
    own = {"one": "203.0.113.1", "two": "198.51.100.7"}
    here = "one"
    monkeypatch.setattr(subnet, "addresses", lambda: [own[here], "fe80::1"])

    list(doctor.setup(incus))

    assert "-203.0.113.0,203.0.113.3-" in _destination(incus)
    incus.machines.statuses = {"two": "Online", "one": "Online"}
    here = "two"
    assert _finding(incus, "network access").state is State.FAILED
    list(doctor.setup(incus))
    assert "-198.51.100.6,198.51.100.8-" in _destination(incus)

    incus.machines.statuses = {"one": "Online", "two": "Offline"}
    here = "one"
    assert _finding(incus, "network access").state is State.GOOD
    assert "-198.51.100.6,198.51.100.8-" in _destination(incus)


def _destination(incus: FakeIncus) -> str:
    (acl,) = incus.objects["acl"].values()
    (rule,) = acl["egress"]
    destination: str = rule["destination"]
    return destination


def test_what_only_a_machine_itself_can_see_is_not_called_good(
    incus: FakeIncus,
) -> None:
    finding = _finding(incus, "other machines")

    assert finding.state is State.UNKNOWN
    assert "two" in finding.detail
    assert "one" not in finding.detail
    assert "incus-testbed doctor" in finding.advice
