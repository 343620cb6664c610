# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done in a warm base, in which order, and what stops it."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from incus_testbed import errors
from incus_testbed.instance.guest import Guest
from incus_testbed.instance.instance import Instance
from incus_testbed.refresh.warm import SetUp, prepare
from tests.support.imported import named
from tests.unit.refresh.conftest import GuestIncus


@pytest.fixture
def base(incus: GuestIncus, monkeypatch: pytest.MonkeyPatch) -> Instance:
    """Give a base whose guest notes the scripts that it is to run."""
    named(incus, "t/a")
    ready = SimpleNamespace(user="me")
    monkeypatch.setattr(Instance, "wait_ready", lambda _: ready)

    def run(
        guest: Guest, command: Sequence[str], **_: object
    ) -> "subprocess.CompletedProcess[Any]":
        del guest
        assert command[:5] == [
            *("env", "AUTOPKGTEST_IS_SETUP_COMMAND=1"),
            *("AUTOPKGTEST_NORMAL_USER=me", "sh", "-ec"),
        ]
        incus.ran.append(["user", command[5]])
        status = 3 if command[5] == incus.failing else 0
        return subprocess.CompletedProcess(command, status)

    monkeypatch.setattr(Guest, "exec", run)
    return Instance.launch(incus, "t/a", purpose="test", ephemeral=False)


def test_commands_are_run_before_the_upgrade(
    incus: GuestIncus, base: Instance, tmp_path: Path
) -> None:
    file = tmp_path / "commands"
    file.write_text("of a file")
    long = "true;" * 2000

    prepare(
        incus, base, SetUp(upgrade=True, commands=["first", str(file), long])
    )

    assert [words[1] for words in incus.ran[:-1]] == [
        *("update", "first", "of a file", long),
        *("update", "dist-upgrade", "autoremove", "clean"),
    ]
    assert incus.ran[-1] == ["forget.sh"]
    assert incus.instance(base.name).status == "Stopped"


def test_commands_alone_do_not_need_apt(
    incus: GuestIncus, base: Instance
) -> None:
    prepare(incus, base, SetUp(commands=["first"]))

    assert incus.ran == [["user", "first"], ["forget.sh"]]


@pytest.mark.parametrize("failing", ["first", "update", "forget.sh"])
def test_a_failure_is_told(
    incus: GuestIncus, base: Instance, failing: str
) -> None:
    incus.failing = failing

    with pytest.raises(errors.CommandFailed):
        prepare(incus, base, SetUp(upgrade=True, commands=["first", "second"]))

    assert ["user", "second"] not in incus.ran or failing == "forget.sh"


def test_a_file_that_is_no_text(
    incus: GuestIncus, base: Instance, tmp_path: Path
) -> None:
    file = tmp_path / "commands"
    file.write_bytes(b"\xff")

    with pytest.raises(errors.NotFound, match="can't be read"):
        prepare(incus, base, SetUp(commands=[str(file)]))

    assert incus.ran == []


def test_nothing_to_do() -> None:
    assert not SetUp()
    assert SetUp(upgrade=True)
    assert SetUp(commands=["x"])
