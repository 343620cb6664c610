# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs end in time, with what they said, and leave nothing running."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from incus_testbed import errors
from incus_testbed.ownership import lock
from incus_testbed.process import guard, kept, programs


def test_output_is_whole_and_binary_safe() -> None:
    data = bytes(range(256)) * 40_000  # more than any buffer of sh
    completed = programs.run(["cat"], timeout=60, stdin=data)
    assert completed.stdout == data
    assert completed.status == 0


@pytest.mark.parametrize("status", [0, 1, 77, 100, 255])
def test_status(status: int) -> None:
    argv = ["sh", "-c", f"echo no >&2; exit {status}"]
    completed = programs.run(argv, timeout=60)
    assert (completed.status, completed.stderr) == (status, "no\n")


def test_death_by_signal_is_negative() -> None:
    completed = programs.run(["sh", "-c", "kill -9 $$"], timeout=60)
    assert completed.status == -signal.SIGKILL


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "ended with status 0"),
        (3, "failed with status 3"),
        (-signal.SIGXFSZ, "was killed by signal 25 (File size limit exceeded)"),
    ],
)
def test_an_ending_is_told_to_people(status: int, words: str) -> None:
    assert programs.ending(status) == words


def test_standard_input_is_empty() -> None:
    assert programs.run(["cat"], timeout=60).stdout == b""


def test_environment_is_small_and_english(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LANG", "de_DE.UTF-8")
    monkeypatch.setenv("SECRET", "x")
    monkeypatch.setenv("INCUS_PROJECT", "p")
    said = programs.run(["env"], timeout=60).stdout.decode()
    assert "LC_ALL=C.UTF-8" in said
    assert "INCUS_PROJECT=p" in said
    assert "SECRET" not in said
    assert "de_DE" not in said


@pytest.mark.parametrize(
    "name", ["HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"]
)
def test_incus_finds_its_proxy(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "found")
    said = programs.run(["env"], timeout=60).stdout.decode()
    assert f"{name}=found" in said.splitlines()


@pytest.mark.parametrize("name", ["HOME", "XDG_CACHE_HOME"])
def test_children_look_for_locks_in_the_same_folder(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(name, str(tmp_path))
    argv = [
        sys.executable,
        "-c",
        _HELD,
        str(Path(__file__).parents[3] / "virt"),
    ]
    with lock.held("x", timeout=1):
        assert programs.run(argv, timeout=60).status == 3


_HELD = """
import sys
sys.path.insert(0, sys.argv[1])
from incus_testbed import errors
from incus_testbed.ownership import lock
try:
    with lock.held("x", timeout=0):
        sys.exit(0)
except errors.TimedOut:
    sys.exit(3)
"""


def test_time_limit_kills_children_too() -> None:
    started = time.monotonic()
    with pytest.raises(errors.TimedOut, match=r"within 0\.3 s"):
        programs.run(["sh", "-c", "sleep 1234.5 & wait"], timeout=0.3)
    assert time.monotonic() - started < 60
    assert not _running("sleep 1234.5")


@pytest.mark.parametrize("stream", ["1", "2"])
def test_a_program_that_prints_without_end_is_killed(
    stream: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "MOST", 2 << 20)
    with pytest.raises(errors.CommandFailed, match="more than 2 MiB"):
        programs.run(["sh", "-c", f"yes >&{stream}"], timeout=60)


def test_interruption_kills_children_too() -> None:
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        programs.run(["sh", "-c", "sleep 1234.6 & wait"], timeout=60)
    assert not _running("sleep 1234.6")


def test_missing_program_names_its_package() -> None:
    with pytest.raises(errors.MissingProgram, match="apt install no-such"):
        programs.run(["no-such"], timeout=1)
    with (
        pytest.raises(errors.MissingProgram, match="apt install no-such"),
        programs.stream(["no-such"]),
    ):
        pass


def test_stream_ends_with_its_block() -> None:
    with programs.stream(["sleep", "1234.7"]) as child:
        assert child.poll() is None
    assert child.returncode == -signal.SIGKILL


def test_threads_do_not_pile_up() -> None:
    programs.run([sys.executable, "-c", ""], timeout=60)
    before = threading.active_count()
    for _ in range(5):
        programs.run(["true"], timeout=60)
    time.sleep(0.2)
    assert threading.active_count() <= before


def _running(command: str) -> bool:
    for _ in range(50):
        found = subprocess.run(["pgrep", "-f", f"^{command}$"], check=False)
        if found.returncode:
            return False
        time.sleep(0.1)
    return True


def test_command_line_for_people() -> None:
    words = ["sh", "a b", "set -e\nx", "\n", " " * 500, "x" * 500]
    cut = ["sh", "a b", "set ...", "...", "...", f"{'x' * 200} ..."]
    assert programs.shown(words) == shlex.join(cut)


@pytest.mark.parametrize(
    "start",
    [
        lambda: programs.run(["false"], timeout=9),
        lambda: programs.call(["false"]),
        lambda: programs.stream(["false"]).__enter__(),
    ],
)
def test_nothing_starts_whose_status_would_be_lost(
    start: Callable[[], object],
) -> None:
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(errors.Unsupported, match="SIGCHLD"):
            start()
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_call_is_as_subprocess_run() -> None:
    argv = ["sh", "-c", "cat; echo no >&2; exit 3"]
    done = programs.call(argv, input="data", capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (3, "data", "no\n")
    with pytest.raises(subprocess.CalledProcessError) as failed:
        programs.call(argv, input=b"data", stdout=subprocess.PIPE, check=True)
    assert failed.value.returncode == 3
    assert failed.value.stdout == b"data"


@pytest.mark.parametrize("grace", [0.0, 60.0])
def test_call_that_takes_too_long(grace: float) -> None:
    """It can clean up within the grace; and is killed after it."""
    stubborn = "trap '' TERM; exec sleep 1234.8"
    argv = ["sh", "-c", stubborn if not grace else "exec sleep 1234.8"]
    with pytest.raises(subprocess.TimeoutExpired):
        programs.call(argv, timeout=0.3, grace=grace)
    assert not _running("sleep 1234.8")


def test_a_stream_with_grace_lets_all_of_it_clean_up(tmp_path: Path) -> None:
    """As mmdebstrap does: its child ends, then it removes its folder."""
    script = """
        cd "$1"
        trap : TERM
        sh -c 'touch started; exec sleep 60'
        touch cleaned
    """
    with programs.stream(
        ["sh", "-c", script, "sh", str(tmp_path)],
        variables={"GIVEN": "x"},
        grace=30,
    ) as child:
        while not (tmp_path / "started").exists():
            time.sleep(0.01)
        environment = Path(f"/proc/{child.pid}/environ").read_bytes()

    assert (tmp_path / "cleaned").exists()
    assert b"GIVEN=x" in environment.split(b"\0")


def test_a_stream_that_outlasts_its_grace_is_killed(tmp_path: Path) -> None:
    """Its children too."""
    script = """
        trap '' TERM
        sleep 60 &
        echo $! >"$1/child"
        wait
        sleep 60
    """
    file = tmp_path / "child"
    with programs.stream(
        ["sh", "-c", script, "sh", str(tmp_path)], grace=0.2
    ) as child:
        while not (file.exists() and file.read_text().strip()):
            time.sleep(0.01)

    assert child.returncode == -signal.SIGKILL
    number = int(file.read_text())
    deadline = time.monotonic() + 10
    while Path(f"/proc/{number}/status").exists():
        state = Path(f"/proc/{number}/status").read_text()
        if "State:\tZ" in state:
            break
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a doubt asked soon, and often."""
    monkeypatch.setattr(guard, "FIRST_LOOK", 0.05)
    monkeypatch.setattr(guard, "NEXT_LOOK", 0.05)


@pytest.mark.usefixtures("_soon")
def test_what_waits_in_vain_is_killed() -> None:
    why = errors.MemberDown("It is gone")
    answers = iter([None, None, why])
    began = time.monotonic()

    with pytest.raises(errors.MemberDown) as said:
        programs.run(
            ["sh", "-c", "sleep 1234.7 & wait"],
            timeout=600,
            doubt=lambda: next(answers),
        )

    assert said.value is why
    assert time.monotonic() - began < 60
    assert not _running("sleep 1234.7")


def test_what_ends_soon_is_not_doubted() -> None:
    asked: list[None] = []
    programs.run(["true"], timeout=60, doubt=lambda: asked.append(None))
    assert asked == []


@pytest.mark.usefixtures("_soon")
def test_a_limit_stands_whatever_a_doubt_does() -> None:
    def fail() -> errors.TestbedError:
        raise ZeroDivisionError

    for doubt in (lambda: None, fail):
        with pytest.raises(errors.TimedOut):
            programs.run(["sleep", "1234.8"], timeout=0.5, doubt=doubt)


@pytest.mark.usefixtures("_soon")
def test_a_doubt_that_comes_too_late_changes_nothing() -> None:
    asked, released = threading.Event(), threading.Event()
    killed: list[None] = []

    def doubt() -> errors.TestbedError:
        asked.set()
        released.wait(60)
        return errors.MemberDown("It is gone")

    guarded = guard.Guard(
        lambda: killed.append(None), errors.TimedOut("late"), 60, doubt
    )
    assert asked.wait(60)
    guarded.release()
    released.set()
    time.sleep(0.2)

    assert (guarded.error, killed) == (None, [])
