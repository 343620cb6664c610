# SPDX-License-Identifier: GPL-3.0-or-later
"""Removal by a copy of the process: when it looks for garbage."""

from collections.abc import Callable
from typing import Any

import pytest

from incus_testbed import errors
from incus_testbed.cleanup import background, garbage
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import InstanceRecord
from incus_testbed.instance.creation import OWNER_KEY
from incus_testbed.process import survivor
from tests.support import owners
from tests.support.fake_incus import FakeIncus
from tests.support.imported import named


@pytest.fixture
def incus() -> FakeIncus:
    incus = FakeIncus.set_up()
    named(incus, "t/image")
    incus.run("launch", "t/image", "mine", f"--config={OWNER_KEY}=me")
    return incus


def _orphan(incus: FakeIncus) -> None:
    owner = f"--config={OWNER_KEY}={owners.GONE}"
    incus.run("init", "t/image", "orphan", owner)


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[Callable[[], object]]:
    """Note what is left to a copy of this process instead of doing it."""
    acts: list[Callable[[], object]] = []
    monkeypatch.setattr(survivor, "leave", acts.append)
    return acts


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Note each look for garbage."""
    found: list[object] = []
    collect = garbage.collect

    def noted(incus: Incus, **how: Any) -> object:
        found.append(how)
        return collect(incus, **how)

    monkeypatch.setattr(garbage, "collect", noted)
    return found


def _is_quick(left: list[Callable[[], object]], looks: list[object]) -> bool:
    """Do what is left; tell whether that was all without a look."""
    (act,) = left
    act()
    return not looks


def test_without_garbage_it_is_quick(
    incus: FakeIncus, left: list[Callable[[], object]], looks: list[object]
) -> None:
    suspected = background.suspects(incus, "mine")

    background.start(incus, "mine", suspected)

    assert suspected == frozenset()
    assert _is_quick(left, looks)


def test_garbage_that_stays_is_removed_too(
    incus: FakeIncus, left: list[Callable[[], object]], looks: list[object]
) -> None:
    _orphan(incus)
    suspected = background.suspects(incus, "mine")

    background.start(incus, "mine", suspected)

    assert suspected == frozenset({"orphan"})
    assert not _is_quick(left, looks)


def test_what_has_gone_since_was_no_garbage(
    incus: FakeIncus, left: list[Callable[[], object]], looks: list[object]
) -> None:
    _orphan(incus)
    suspected = background.suspects(incus, "mine")
    incus.delete("orphan")

    background.start(incus, "mine", suspected)

    assert _is_quick(left, looks)


def test_what_incus_is_working_on_is_no_garbage(
    incus: FakeIncus,
    left: list[Callable[[], object]],
    looks: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _orphan(incus)
    suspected = background.suspects(incus, "mine")
    monkeypatch.setattr(incus, "busy_instances", lambda: {"orphan"})

    background.start(incus, "mine", suspected)

    assert _is_quick(left, looks)


def test_of_many_testbeds_a_few_are_looked_at(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = f"--config={OWNER_KEY}={owners.GONE}"
    for number in range(50):
        incus.run("init", "t/image", f"testbed-{number}", owner)
        incus.run("init", "t/image", f"other-{number}", owner)
    asked = []
    ask = incus.instance

    def instance(name: str) -> InstanceRecord:
        asked.append(name)
        return ask(name)

    monkeypatch.setattr(incus, "instance", instance)

    suspected = background.suspects(incus, "testbed-0")

    assert suspected == frozenset(asked)
    assert len(asked) == 10
    assert all(name.startswith("testbed-") for name in asked)
    assert "testbed-0" not in asked


@pytest.mark.parametrize("question", ["instance", "busy_instances"])
def test_where_garbage_can_not_be_found_another_looks(
    incus: FakeIncus,
    left: list[Callable[[], object]],
    looks: list[object],
    monkeypatch: pytest.MonkeyPatch,
    question: str,
) -> None:
    _orphan(incus)
    suspected = background.suspects(incus, "mine")

    def refuse(*_: str) -> None:
        raise errors.TimedOut("Incus does not answer")

    monkeypatch.setattr(incus, "delete", lambda _: None)
    monkeypatch.setattr(incus, question, refuse)

    background.start(incus, "mine", suspected)

    assert not _is_quick(left, looks)


def test_what_was_not_known_at_first_is_looked_for(
    incus: FakeIncus,
    left: list[Callable[[], object]],
    looks: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse() -> None:
        raise errors.TimedOut("Incus does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(incus, "instance_names", refuse)
        suspected = background.suspects(incus, "mine")

    background.start(incus, "mine", suspected)

    assert suspected is None
    assert not _is_quick(left, looks)


def test_the_copy_removes_the_instance_and_garbage(
    incus: FakeIncus, left: list[Callable[[], object]]
) -> None:
    _orphan(incus)
    background.start(incus, "mine", None)
    assert len(incus.instances()) == 2

    left.pop()()

    assert incus.instances() == []


def test_what_can_not_be_removed_is_left_to_a_later_process(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> None:
        raise errors.Denied(f"{name} is not yours")

    monkeypatch.setattr(incus, "delete", refuse)

    background.start(incus, "mine", None)  # nothing is raised here

    assert [each.name for each in incus.instances()] == ["mine"]
