# SPDX-License-Identifier: GPL-3.0-or-later
"""Commands in a real container: nothing they say or read gets lost."""

import contextlib
import glob
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.incus.exec import api
from incus_testbed.instance import scripts
from incus_testbed.instance.instance import Instance

_LIMIT = 120
_BIG = 100_000_000


@pytest.fixture(scope="module")
def box(incus: Incus, bookworm: str) -> Iterator[Instance]:
    with Instance.launch(incus, bookworm, purpose="test") as launched:
        launched.wait_ready()
        yield launched


class Guest:
    """Runs commands as they are, without a shell of ours around them."""

    def __init__(self, incus: Incus, name: str) -> None:
        self._incus = incus
        self._name = name

    def argv(self, *command: str) -> list[str]:
        return self._incus.exec_argv(self._name, command)

    def run(
        self, *command: str, **options: Any
    ) -> "subprocess.CompletedProcess[bytes]":
        if "input" not in options:
            options.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.run(
            self.argv(*command),
            capture_output=True,
            timeout=_LIMIT,
            check=False,
            **options,
        )

    def start(self, *command: str, **options: Any) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            self.argv(*command),
            **{
                "stdin": subprocess.DEVNULL,
                "stdout": subprocess.PIPE,
                **options,
            },
        )

    def runs(self, command: str) -> bool:
        """Tell whether a process of the guest has this command line."""
        look = "for p in /proc/[0-9]*; do tr '\\0' ' ' <$p/cmdline; echo; done"
        said = self.run("sh", "-c", look).stdout.decode()
        return f"{command} " in said.splitlines()


@pytest.fixture
def guest(incus: Incus, box: Instance) -> Guest:
    return Guest(incus, box.name)


@contextlib.contextmanager
def _busy_machine() -> Iterator[None]:
    loops = [
        subprocess.Popen(["sh", "-c", "while :; do :; done"]) for _ in range(3)
    ]
    try:
        yield
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()


def test_short_commands_lose_nothing_on_a_busy_machine(guest: Guest) -> None:
    """All of a number that was asked for; otherwise, what goes in a minute."""
    count = int(os.environ.get("SHORT_COMMANDS", "0"))
    deadline = time.monotonic() + 60
    with _busy_machine():
        for _ in range(count or 200):
            done = guest.run("echo", "hello")
            assert (done.returncode, done.stdout) == (0, b"hello\n")
            assert done.stderr == b""
            if not count and time.monotonic() > deadline:
                break


@pytest.mark.parametrize(
    "wrapped",
    [
        scripts.logged_in("exec.pl", "echo", "hello", attended=True),
        scripts.logged_in(
            *("run.pl", "id", "root", "/", "2", "0", "echo", "hello")
        ),
        scripts.logged_in(
            *("run.pl", "id", "root", "/", "2", "0"),
            *("sh", "-c", "echo hello; exit 255"),
        ),
    ],
    ids=["exec", "run", "run, with a status that is written down"],
)
def test_a_command_ends_after_its_output_is_taken(
    guest: Guest, wrapped: list[str]
) -> None:
    """Else incusd, when it is busy, takes the end for that of the output."""
    late = '{ "$@"; echo ended >&2; } | { sleep 1; echo taken >&2; cat; }'
    done = guest.run("sh", "-c", late, "late", *wrapped)
    assert (done.stdout, done.stderr) == (b"hello\n", b"taken\nended\n")


def test_many_at_once(guest: Guest) -> None:
    def echo(number: int) -> bytes:
        return guest.run("sh", "-c", f"cat; echo {number}", input=b"x").stdout

    with ThreadPoolExecutor(16) as pool:
        said = list(pool.map(echo, range(64)))
    assert said == [f"x{number}\n".encode() for number in range(64)]


@pytest.mark.parametrize("status", [0, 1, 77, 100, 126, 127, 255])
def test_status(guest: Guest, status: int) -> None:
    done = guest.run("sh", "-c", f"echo no >&2; exit {status}")
    assert (done.returncode, done.stderr) == (status, b"no\n")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_death_by_signal(guest: Guest, number: signal.Signals) -> None:
    done = guest.run("sh", "-c", f"kill -{number:d} $$")
    assert done.returncode == 128 + number


def test_command_that_is_not_there(guest: Guest) -> None:
    done = guest.run("no-such-command")
    assert done.returncode == 127
    assert done.stderr == b"incus-testbed: Command not found\n"


def test_big_output(guest: Guest) -> None:
    argv = guest.argv("head", "-c", str(_BIG), "/dev/zero")
    size = 0
    with subprocess.Popen(
        argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
    ) as child:
        assert child.stdout
        while data := child.stdout.read(1 << 20):
            assert not data.strip(b"\0")
            size += len(data)
    assert (child.returncode, size) == (0, _BIG)


def test_big_data_both_ways_at_once(guest: Guest) -> None:
    data = os.urandom(_BIG)
    done = guest.run("cat", input=data)
    assert done.returncode == 0
    assert done.stdout == data


def test_input_that_never_ends(guest: Guest) -> None:
    with guest.start("echo", "hello", stdin=subprocess.PIPE) as child:
        assert child.wait(_LIMIT) == 0
        assert child.stdout
        assert child.stdout.read() == b"hello\n"


def test_input_that_nobody_reads(guest: Guest) -> None:
    with open("/dev/zero", "rb") as zeros:  # noqa: PTH123
        done = guest.run("echo", "hello", stdin=zeros)
    assert (done.returncode, done.stdout) == (0, b"hello\n")


def test_reader_that_leaves(guest: Guest) -> None:
    with guest.start("yes") as child:
        assert child.stdout
        assert child.stdout.read(2) == b"y\n"
        child.stdout.close()
        assert child.wait(_LIMIT) == 128 + signal.SIGPIPE


def test_output_that_is_closed_early_leaves_the_input(guest: Guest) -> None:
    with guest.start(
        "sh", "-c", "exec >&-; wc -c >&2", stdin=subprocess.PIPE, stderr=-1
    ) as child:
        assert child.communicate(b"x" * 1_000_000, timeout=_LIMIT) == (
            b"",
            b"1000000\n",
        )


def test_process_that_is_left_behind_does_not_hold_up(guest: Guest) -> None:
    started = time.monotonic()
    done = guest.run("sh", "-c", "sleep 543 & echo done")
    assert (done.returncode, done.stdout) == (0, b"done\n")
    assert time.monotonic() - started < 20
    assert guest.runs("sleep 543")


@pytest.mark.parametrize(
    ("number", "status"),
    [
        (signal.SIGHUP, 128 + signal.SIGHUP),
        (signal.SIGINT, 128 + signal.SIGINT),
        (signal.SIGTERM, 128 + signal.SIGTERM),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_interruption_ends_the_command(
    guest: Guest, number: signal.Signals, status: int
) -> None:
    command = f"sleep 6{number:03d}"
    with guest.start(*command.split()) as child:
        _wait_until(guest, command, running=True)
        child.send_signal(number)
        assert child.wait(_LIMIT) == status
    _wait_until(guest, command, running=False)


def test_signal_is_the_commands_to_handle(guest: Guest) -> None:
    wait = (
        "trap 'echo caught; exit 9' INT; echo set; while :; do sleep 0.1; done"
    )
    with guest.start("sh", "-c", wait) as child:
        assert child.stdout
        assert child.stdout.readline() == b"set\n"
        child.send_signal(signal.SIGINT)
        assert child.stdout.read() == b"caught\n"
        assert child.wait(_LIMIT) == 9


def _wait_until(guest: Guest, command: str, *, running: bool) -> None:
    deadline = time.monotonic() + _LIMIT
    while guest.runs(command) != running:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_absent_instance(incus: Incus) -> None:
    with pytest.raises(errors.NotFound):
        incus.execute("no-such-instance", ["true"], timeout=_LIMIT)


def test_stopped_instance(incus: Incus, bookworm: str) -> None:
    with Instance.launch(
        incus, bookworm, purpose="test", ephemeral=False
    ) as stopped:
        incus.kill(stopped.name)
        with pytest.raises(errors.NotRunning):
            incus.execute(stopped.name, ["true"], timeout=_LIMIT)


def test_instance_that_stops_ends_the_command(
    incus: Incus, bookworm: str
) -> None:
    launched = Instance.launch(incus, bookworm, purpose="test", ephemeral=False)
    guest = Guest(incus, launched.name)
    with launched, guest.start("sleep", "600") as child:
        time.sleep(1)
        incus.kill(launched.name)
        assert child.wait(_LIMIT) in {129, 128 + signal.SIGKILL}


def _control_group(instance: Instance) -> Path:
    """Return an instance's group, as the daemon's mount namespace shows it."""
    # pathlib's does not forgive processes that end meanwhile.
    groups = glob.glob(  # noqa: PTH207
        f"/proc/[0-9]*/root/sys/fs/cgroup/lxc.payload*{instance.name}"
    )
    return Path(groups[0])


@contextlib.contextmanager
def _no_way_in(instance: Instance) -> Iterator[None]:
    """Let commands have no control group: Incus can't get them in then."""
    group = _control_group(instance)
    for used_before in group.glob(".lxc*"):
        used_before.rmdir()
    limit = group / "cgroup.max.descendants"
    limit.write_text("0")
    try:
        yield
    finally:
        limit.write_text("max")


def test_command_that_does_not_get_in(
    incus: Incus, bookworm: str, tmp_path: Path
) -> None:
    """Of its input so little is taken that all is there for another try.

    By TCP, the kernels of both sides may take more; then there is none.
    """
    file = tmp_path / "input"
    with file.open("wb") as empty:
        empty.truncate(_BIG)
    with Instance.launch(incus, bookworm, purpose="test") as launched:
        launched.wait_ready()
        guest = Guest(incus, launched.name)
        with _no_way_in(launched), file.open("rb", buffering=0) as source:
            failed = guest.run("cat", stdin=source)
            assert (failed.returncode, failed.stdout) == (125, b"")
            assert api.NOT_ATTACHED.encode() in failed.stderr
            taken = os.lseek(source.fileno(), 0, os.SEEK_CUR)
            assert taken <= 1 << 20 or not incus.is_local()
            with pytest.raises(errors.NotRunning):
                incus.execute(launched.name, ["true"], timeout=_LIMIT)
        assert guest.run("echo", "in").stdout == b"in\n"
