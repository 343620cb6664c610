# SPDX-License-Identifier: GPL-3.0-or-later
"""Removal by another process: when it looks for garbage, and what it does."""

import shlex
import sys
from collections.abc import Sequence

import pytest

from incus_testbed import errors
from incus_testbed.cleanup import background
from incus_testbed.incus.records import InstanceRecord
from incus_testbed.instance.creation import OWNER_KEY
from incus_testbed.process import programs
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
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note the words of the shell's command instead of running it."""
    words: list[str] = []

    def detach(argv: Sequence[str]) -> None:
        words.extend(shlex.split(argv[-1]))

    monkeypatch.setattr(programs, "detach", detach)
    return words


def _is_quick(words: list[str]) -> bool:
    """Tell whether incus alone removes it, and Python where that fails."""
    assert words.count("mine") == (2 if "||" in words else 1)
    return words[0] == "timeout" and "||" in words


def test_without_garbage_it_is_quick(
    incus: FakeIncus, started: list[str]
) -> None:
    suspected = background.suspects(incus, "mine")

    background.start(incus, "mine", suspected)

    assert suspected == frozenset()
    assert _is_quick(started)


def test_garbage_that_stays_is_removed_too(
    incus: FakeIncus, started: list[str]
) -> None:
    _orphan(incus)
    suspected = background.suspects(incus, "mine")

    background.start(incus, "mine", suspected)

    assert suspected == frozenset({"orphan"})
    assert not _is_quick(started)


def test_what_has_gone_since_was_no_garbage(
    incus: FakeIncus, started: list[str]
) -> None:
    _orphan(incus)
    suspected = background.suspects(incus, "mine")
    incus.delete("orphan")

    background.start(incus, "mine", suspected)

    assert _is_quick(started)


def test_what_incus_is_working_on_is_no_garbage(
    incus: FakeIncus, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _orphan(incus)
    suspected = background.suspects(incus, "mine")
    monkeypatch.setattr(incus, "busy_instances", lambda: {"orphan"})

    background.start(incus, "mine", suspected)

    assert _is_quick(started)


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
    started: list[str],
    monkeypatch: pytest.MonkeyPatch,
    question: str,
) -> None:
    _orphan(incus)
    suspected = background.suspects(incus, "mine")

    def refuse(*_: str) -> None:
        raise errors.TimedOut("Incus does not answer")

    monkeypatch.setattr(incus, question, refuse)

    background.start(incus, "mine", suspected)

    assert not _is_quick(started)


def test_what_was_not_known_at_first_is_looked_for(
    incus: FakeIncus, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse() -> None:
        raise errors.TimedOut("Incus does not answer")

    with monkeypatch.context() as patch:
        patch.setattr(incus, "instance_names", refuse)
        suspected = background.suspects(incus, "mine")

    background.start(incus, "mine", suspected)

    assert suspected is None
    assert not _is_quick(started)


def _main(
    incus: FakeIncus, words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Do what the Python of a shell's command does, with its arguments."""
    monkeypatch.setattr(background, "Incus", incus.aimed)
    # The last three are main()'s; the one before is the folder of the code.
    monkeypatch.setattr(sys, "argv", ["-c", *words[-3:]])
    background.main()


def test_the_process_removes_the_instance_and_garbage(
    incus: FakeIncus, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _orphan(incus)
    background.start(incus, "mine", None)

    _main(incus, started, monkeypatch)

    assert incus.instances() == []


def test_the_process_tells_its_failure(
    incus: FakeIncus, started: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    background.start(incus, "mine", None)

    def refuse(name: str) -> None:
        raise errors.Denied(f"{name} is not yours")

    monkeypatch.setattr(incus, "delete", refuse)

    with pytest.raises(SystemExit, match="mine is not yours"):
        _main(incus, started, monkeypatch)
