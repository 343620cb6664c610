# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands: what they are given, and how they end."""

import contextlib
import signal
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePath
from typing import Any

import pytest
from debusine.tasks.executors.base import InstanceInterface

from .guest import Guest
from .pace import PACE


@pytest.mark.parametrize("status", [0, 1, 125, 126, 127, 128, 130, 137, 255])
def test_exit_status(instance: InstanceInterface, status: int) -> None:
    args = ["sh", "-c", f"exit {status}"]
    assert instance.run(args, run_as_root=True).returncode == status


@pytest.mark.parametrize(
    "words", [["sh", "-c", "exit 200"], ["sh", "-c", "kill $$"], ["no-such"]]
)
def test_no_file_tells_later_how_it_ended(
    instance: InstanceInterface, guest: Guest, words: list[str]
) -> None:
    with contextlib.suppress(FileNotFoundError):
        instance.run(words)
    assert guest.ask("ls /run/ | grep testbed | grep -v login || :") == ""


@pytest.mark.parametrize("name", ["KILL", "TERM", "SEGV", "INT", "HUP"])
def test_death_by_signal_is_negative(
    instance: InstanceInterface, name: str
) -> None:
    done = instance.run(["sh", "-c", f"kill -{name} $$"])
    assert done.returncode == -signal.Signals[f"SIG{name}"]


def test_result_has_the_arguments_given(instance: InstanceInterface) -> None:
    args = ["echo", "a b"]
    done = instance.run(args)
    assert done.args == args
    assert done.stdout == b"a b\n"


def test_check_raises_with_arguments_and_output(
    instance: InstanceInterface,
) -> None:
    args = ["sh", "-c", "echo out; echo err >&2; exit 3"]
    with pytest.raises(subprocess.CalledProcessError) as caught:
        instance.run(args, check=True)
    error = caught.value
    assert error.cmd == args
    assert error.returncode == 3
    assert (error.stdout, error.stderr) == (b"out\n", b"err\n")


def test_check_lets_success_pass(instance: InstanceInterface) -> None:
    assert instance.run(["true"], check=True).returncode == 0


def test_arguments_arrive_untouched(instance: InstanceInterface) -> None:
    words = [
        *("a b", "$HOME", "'\"\\", "", "*", "ü", "--help", "-", "--", "a\nb"),
        *("trailing\n", "`id`", "~", "!", "#", "\t", "%s", "a=b", "", " "),
    ]
    done = instance.run(["printf", "%s\\0", *words])
    assert done.stdout.decode().split("\0") == [*words, ""]


def test_paths_are_arguments_too(
    instance: InstanceInterface, guest: Guest, folder: PurePath
) -> None:
    guest.write(folder / "file", "x")
    args: list[Any] = [PurePath("cat"), Path(folder / "file")]
    done = instance.run(args)
    assert done.stdout == b"x"
    assert done.args == args


def test_long_argument(instance: InstanceInterface) -> None:
    word = "x" * 100_000
    assert instance.run(["echo", word]).stdout == f"{word}\n".encode()


def test_many_arguments(instance: InstanceInterface) -> None:
    words = [str(number) for number in range(5000)]
    assert instance.run(["echo", *words]).stdout.decode().split() == words


@pytest.mark.parametrize("run_as_root", [True, False], ids=["root", "user"])
@pytest.mark.parametrize("command", ["no-such-command", "/no/such/command"])
def test_absent_command_is_not_found(
    instance: InstanceInterface, command: str, run_as_root: bool
) -> None:
    with pytest.raises(FileNotFoundError, match=command):
        instance.run([command, "x"], run_as_root=run_as_root)


@pytest.mark.parametrize("run_as_root", [True, False], ids=["root", "user"])
@pytest.mark.parametrize("command", ["/etc/passwd", "/etc"])
def test_what_is_no_program_is_not_permitted(
    instance: InstanceInterface, command: str, run_as_root: bool
) -> None:
    with pytest.raises(PermissionError, match=command):
        instance.run([command], run_as_root=run_as_root)


def test_program_of_another_user_is_not_permitted(
    instance: InstanceInterface, guest: Guest, folder: PurePath
) -> None:
    program = str(folder / "program")
    guest.ask('cp /bin/true "$1"; chmod 700 "$1"', program)
    assert instance.run([program], run_as_root=True).returncode == 0
    with pytest.raises(PermissionError, match="program"):
        instance.run([program])


def test_absent_command_is_told_from_what_a_shell_does_not_find(
    instance: InstanceInterface,
) -> None:
    done = instance.run(["sh", "-c", "no-such-command"], text=True)
    assert done.returncode == 127
    assert "no-such-command" in done.stderr


def test_two_threads_at_once(instance: InstanceInterface) -> None:
    instance.create_user()
    both_are_in = threading.Barrier(2)

    def ask(word: str) -> list[str]:
        both_are_in.wait()
        return [
            instance.run(["sh", "-c", f"sleep 0.1; echo {word}"], text=True)
            .stdout.strip()
            for _ in range(5)
        ]  # fmt: skip

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(ask, ["one", "two"]))
    assert answers == [["one"] * 5, ["two"] * 5]


def test_time_limit_in_a_thread(instance: InstanceInterface, mark: str) -> None:
    def sleep() -> None:
        instance.run(["sleep", mark], timeout=PACE)

    started = time.monotonic()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(sleep)
        with pytest.raises(subprocess.TimeoutExpired):
            future.result()
    assert time.monotonic() - started < 20 * PACE
