# SPDX-License-Identifier: GPL-3.0-or-later
"""A member of a cluster that does not answer is named, and not waited for."""

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from incus_testbed import errors
from incus_testbed.image import profiles
from incus_testbed.incus.client import Incus
from incus_testbed.incus.members import Watch
from incus_testbed.process import guard
from tests.support import tiny_guest
from tests.support.fake_incus import FakeIncus

_AWAY = errors.MemberDown(
    "A member does not answer", details="why", resolution="what to do"
)


class _Cluster:
    """A server that can't ask the member that has the instance."""

    def __init__(self, *statuses: str) -> None:
        """Have members with these statuses; those that are "Gone" too."""
        self._gone = [status == "Gone" for status in statuses]
        self._members = [
            {
                "server_name": f"member-{number}",
                "status": "Online" if status == "Gone" else status,
                "message": "",
                "url": f"https://192.0.2.{number}:8443",
                "architecture": "x86_64",
            }
            for number, status in enumerate(statuses, 1)
        ]

    def get(self, path: str, *, recursion: int = 0) -> Any:
        """Answer what the server itself knows."""
        del recursion
        if not path:
            return {"environment": {"server_name": "member-1"}}
        if path == "cluster/members" and self._members:
            return self._members
        if path.startswith("?target=member-"):
            number = int(path.rpartition("-")[2])
            if not self._gone[number - 1]:
                return {}
        raise _AWAY


@pytest.mark.parametrize(
    ("statuses", "brief"),
    [
        (
            ("Online", "Offline", "Offline"),
            "member-2 and member-3 of the cluster do not answer",
        ),
        (("Online", "Offline"), "member-2 of the cluster does not answer"),
        (("Offline", "Offline"), "member-2 of the cluster does not answer"),
        (("Online", "Online"), "A member does not answer"),
        # The cluster does not know it yet.
        (
            ("Online", "Online", "Gone", "Online"),
            "member-3 of the cluster does not answer",
        ),
        ((), "A member does not answer"),
    ],
)
def test_the_members_that_do_not_answer_are_named(
    monkeypatch: pytest.MonkeyPatch, statuses: tuple[str, ...], brief: str
) -> None:
    incus = Incus()
    monkeypatch.setattr(incus, "_transport", lambda: _Cluster(*statuses))

    with pytest.raises(errors.MemberDown) as said:
        incus.get("instances/x")

    assert said.value.brief == brief
    assert said.value.details == "why"
    assert said.value.resolution == "what to do"


def _watch(incus: FakeIncus) -> Watch:
    asked = "incus launch testbed"
    return Watch(
        incus.get, incus.environment, "testbed", asked=asked, remote=""
    )


def _cluster(*, has_it: str = "", offline: str = "two") -> FakeIncus:
    """Return a cluster in which a member may have the instance."""
    incus = FakeIncus.set_up()
    incus.become_cluster()
    if has_it:
        with tempfile.TemporaryDirectory() as folder:
            files = tiny_guest.write(Path(folder), "image")
            image = incus.import_image(*files)
        target = f"--target={has_it}"
        profile = f"--profile={profiles.USUAL}"
        incus.run("launch", image, "testbed", profile, target)
    if offline:
        incus.machines.statuses[offline] = "Offline"
    return incus


@pytest.mark.parametrize("has_it", ["two", ""])
def test_work_of_a_member_that_went_down_is_given_up(has_it: str) -> None:
    watch = _watch(_cluster(has_it=has_it))

    # Once, and a second time, may be between two operations.
    assert [watch(), watch()] == [None, None]
    error = watch()

    assert isinstance(error, errors.MemberDown)
    assert error.brief == "two of the cluster does not answer"
    assert "incus launch testbed" in error.details
    assert "incus-testbed gc" in error.resolution


def test_members_that_answer_are_waited_for() -> None:
    watch = _watch(_cluster(offline=""))
    assert [watch() for _ in range(9)] == [None] * 9


def test_another_member_than_that_of_the_instance_does_not_matter() -> None:
    watch = _watch(_cluster(has_it="one"))
    assert [watch() for _ in range(9)] == [None] * 9


def test_the_member_that_answers_is_not_down() -> None:
    watch = _watch(_cluster(offline="one"))
    assert [watch() for _ in range(9)] == [None] * 9


def test_a_running_operation_is_waited_for() -> None:
    incus = _cluster()
    watch = _watch(incus)
    with incus.working_on("testbed"):
        assert [watch() for _ in range(9)] == [None] * 9
    assert [watch() is None for _ in range(3)] == [True, True, False]


def test_a_member_that_is_back_is_waited_for() -> None:
    incus = _cluster()
    watch = _watch(incus)
    for _ in range(3):
        assert [watch(), watch()] == [None, None]
        incus.machines.statuses["two"] = "Online"
        assert watch() is None
        incus.machines.statuses["two"] = "Offline"


def test_what_is_not_known_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object, **__: object) -> Any:
        raise errors.Restricted("They are not for you")

    incus = _cluster()
    monkeypatch.setattr(incus, "get", refuse)
    watch = _watch(incus)
    assert [watch() for _ in range(9)] == [None] * 9


def test_a_machine_alone_is_asked_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    incus = FakeIncus()
    asked: list[str] = []
    monkeypatch.setattr(incus, "get", lambda path, **_: asked.append(path))
    watch = _watch(incus)
    assert [watch() for _ in range(9)] == [None] * 9
    assert asked == []


@pytest.mark.parametrize(
    "command",
    [
        lambda incus: incus.launch(
            "image", "testbed", config={}, ephemeral=True
        ),
        lambda incus: incus.copy("base", "testbed", config={}, ephemeral=True),
        lambda incus: incus.start("testbed"),
        lambda incus: incus.stop("testbed", grace=1),
        lambda incus: incus.kill("testbed"),
        lambda incus: incus.delete("testbed"),
    ],
)
def test_a_command_does_not_wait_for_a_member_that_went_down(
    command: Callable[[Incus], None],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """The incus command would, until its limit is reached."""
    program = tmp_path / "incus"
    program.write_text("#!/bin/sh\nexec sleep 600\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(guard, "FIRST_LOOK", 0.05)
    monkeypatch.setattr(guard, "NEXT_LOOK", 0.05)
    incus = Incus()
    monkeypatch.setattr(incus, "is_direct", lambda: False)
    monkeypatch.setattr(incus, "_transport", _cluster)
    began = time.monotonic()

    with pytest.raises(errors.MemberDown, match="two of the cluster"):
        command(incus)

    assert time.monotonic() - began < 60
