# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of a guest that make no sense, or mean something else."""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.incus.exec import api
from incus_testbed.instance import answer, readiness
from incus_testbed.instance.command import GuestCommand
from incus_testbed.instance.guest import Guest
from incus_testbed.instance.instance import Instance
from incus_testbed.process import programs

_BOOT = "01234567-89ab-cdef-0123-456789abcdef"


class LyingIncus(Incus):
    """Its guest answers every question with the same words."""

    def __init__(self, said: str) -> None:
        super().__init__()
        self.said = said

    def execute(
        self, name: str, command: Sequence[str], **options: Any
    ) -> programs.Completed:
        del name, command, options
        said = f"{self.said}\nwhole=yes\n".encode(errors="surrogateescape")
        return programs.Completed(
            argv=("sh",), status=0, stdout=said, stderr=""
        )

    def short_file(self, name: str, path: str) -> None:
        """Have a command read it."""

    def exec_argv(
        self, name: str, command: Sequence[str], **options: Any
    ) -> list[str]:
        """Have a file be sent that is what the guest always says."""
        del name, command, options
        said = 'printf %s "$1"; exit "${1:-0}"'
        return ["sh", "-c", said, "sh", self.said]

    def carry(
        self, name: str, command: Sequence[str], **options: Any
    ) -> tuple[int, bytes, bytes]:
        """Have a command end in a way that has to be asked for."""
        del name, command, options
        return 125, b"", b""


class _Saying(Incus):
    """Its guest's commands print this."""

    def __init__(self, said: str) -> None:
        super().__init__()
        self.said = said

    def execute(self, *_: object, **__: object) -> programs.Completed:
        return programs.Completed(
            argv=("sh",), status=0, stdout=f"{self.said}\n".encode(), stderr=""
        )


@pytest.mark.parametrize(
    "name",
    [
        "x isolation-machine downtmp-host=/root/.ssh",
        "x,y",
        "Root",
        "-rf",
        "a" * 33,
        "ü",
        "x\t",
        "",
    ],
)
def test_user_name_that_is_none(name: str) -> None:
    incus = LyingIncus(f"state=running\nnetwork=online\nuser={name}")
    assert not readiness.wait_ready(Guest(incus, "x"), 1).user


@pytest.mark.parametrize(
    "said",
    ["", "tmp/x", "/tmp/x\n/tmp/y", "/tmp/x\nnoise", "/\033[2J", "/" * 4096],
)
def test_scratch_directory_that_is_none(said: str) -> None:
    with pytest.raises(errors.CommandFailed) as caught:
        Guest(_Saying(said), "x").make_scratch()
    assert "\033" not in str(caught.value)


def test_scratch_directory() -> None:
    assert Guest(_Saying("/tmp/a b"), "x").make_scratch() == "/tmp/a b"


@pytest.mark.parametrize("name", ["debian", "_apt", "a.b-c_d9", "a" * 32])
def test_user_name(name: str) -> None:
    incus = LyingIncus(f"state=running\nnetwork=online\nuser={name}")
    assert readiness.wait_ready(Guest(incus, "x"), 1).user == name


def test_other_words_of_a_guest() -> None:
    incus = LyingIncus(
        "state=\x1b[2J\nnetwork=on line\n"
        "failed=ssh.service \x1b]0;x\x07.service"
    )
    ready = readiness.wait_ready(Guest(incus, "x"), 1)
    assert (ready.state, ready.network) == ("unknown", "unknown")
    assert ready.failed_units == ("ssh.service",)


def test_a_shell_that_is_none() -> None:
    said = f"shell=/tmp/evil\nuser=\nboot={_BOOT}"
    assert Instance(LyingIncus(said), "x").probe()["shell"] == "sh"


def test_boot_id() -> None:
    said = "shell=bash\nuser=\nboot="
    probe = Instance(LyingIncus(said + _BOOT), "x").probe()
    assert probe == {"shell": "bash", "user": "", "boot": _BOOT}
    with pytest.raises(errors.CommandFailed, match="boot id"):
        Instance(LyingIncus(said + "x y=z"), "x").probe()


@pytest.mark.parametrize(
    "number", ["abc", "-5", "", "4294967295", "99999999999999999999", "\u0663"]
)
def test_uid_that_is_none(number: str) -> None:
    guest = Guest(LyingIncus(f"uid={number}"), "x")
    with pytest.raises(errors.CommandFailed):
        guest.make_user("debian")


def test_uid() -> None:
    guest = Guest(LyingIncus("uid=1000"), "x")
    assert guest.make_user("debian") == 1000


@pytest.mark.parametrize(
    "outcome",
    [
        *("exit abc", "exit 256", "exit -1", "exit 99999999999999999999"),
        *("signal 0x9", "signal 65", "cwd 9999999999999999999999", "command"),
        *("\x1b[2J", "exit"),
    ],
)
def test_outcome_that_makes_no_sense(outcome: str) -> None:
    command = GuestCommand(
        guest=Guest(LyingIncus(f"outcome={outcome}"), "x"), words=["true"]
    )
    with pytest.raises(errors.CommandFailed) as caught:
        command.run(stderr=subprocess.DEVNULL)
    assert "\x1b" not in str(caught.value)


class LostIncus(LyingIncus):
    """Its guest's commands are lost sight of."""

    def carry(
        self, name: str, command: Sequence[str], **options: Any
    ) -> tuple[int, bytes, bytes]:
        """Say why."""
        del name, command, options
        raise api.Lost("no agent \033[2J")


class AwayIncus(LyingIncus):
    """Only the incus command reaches it, and that loses sight of commands."""

    def is_direct(self) -> bool:
        """Tell so."""
        return False

    def exec_argv(
        self, name: str, command: Sequence[str], **options: Any
    ) -> list[str]:
        """Say why."""
        del name, command, options
        return ["sh", "-c", "echo 'no agent \033[2J' >&2; exit 125"]


@pytest.mark.parametrize("incus", [LostIncus, AwayIncus])
@pytest.mark.parametrize("text", [True, False])
def test_end_that_is_not_known_has_a_reason(
    incus: type[LyingIncus], text: bool
) -> None:
    command = GuestCommand(guest=Guest(incus("outcome="), "x"), words=["x"])
    with pytest.raises(errors.CommandFailed, match="not known") as caught:
        command.run(capture_output=True, text=text)
    assert "no agent" in caught.value.details
    assert "\x1b" not in str(caught.value)


def test_command_whose_output_is_lost_has_not_succeeded() -> None:
    command = GuestCommand(
        guest=Guest(LostIncus("outcome=exit 125"), "x"), words=["x"]
    )
    with pytest.raises(errors.CommandFailed, match="not known"):
        command.run(capture_output=True)


def test_command_that_could_not_start_is_not_lost() -> None:
    command = GuestCommand(
        guest=Guest(LostIncus("outcome=command 2"), "x"), words=["no-such"]
    )
    with pytest.raises(FileNotFoundError, match="no-such"):
        command.run()


def test_outcome() -> None:
    for outcome, status in (("exit 125", 125), ("signal 9", -9)):
        command = GuestCommand(
            guest=Guest(LyingIncus(f"outcome={outcome}"), "x"), words=["x"]
        )
        assert command.run().returncode == status
    command = GuestCommand(
        guest=Guest(LyingIncus("outcome=cwd 2"), "x"), words=["x"], cwd="/y"
    )
    with pytest.raises(FileNotFoundError, match="/y"):
        command.run()


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("", errors.CommandFailed),
        ("0", errors.CommandFailed),
        ("1", errors.CommandFailed),
        ("125", errors.CommandFailed),
        ("2", FileNotFoundError),
        ("21", IsADirectoryError),
    ],
)
def test_pull_of_what_is_not_whole(
    said: str, kind: type[Exception], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("before")
    files = Guest(LyingIncus(said), "testbed-abc").files
    with pytest.raises(kind, match="/etc/hostname"):
        files.pull("/etc/hostname", f"{tmp_path}/file")
    assert (tmp_path / "file").read_text() == "before"
    assert len(list(tmp_path.iterdir())) == 1


@given(st.text(), st.integers(0, 1 << 32))
def test_any_text(text: str, largest: int) -> None:
    assert answer.user(text) in {"", text}
    assert answer.boot(text) in {"", text}
    assert answer.state(text).isprintable()
    try:
        number = answer.number(text, largest, "a number")
    except errors.CommandFailed:
        return
    assert 0 <= number <= largest
