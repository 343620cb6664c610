# SPDX-License-Identifier: GPL-3.0-or-later
"""A private Incus is gone without a trace, however its run ends."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support import daemon, sandbox

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root can start a private Incus"
)

#: A bridge is what outlives the processes.
_BRIDGE = "chkdaemon0"
#: Seconds after which a test has hung.
_PATIENCE = 120
_COMMAND = f"""
set -e
exec 3<&0 </dev/null # "incus network create" would read it
# Incus fails if a network card of the machine goes away meanwhile.
for attempt in $(seq {sandbox.ATTEMPTS}); do
    incus network create {_BRIDGE} ipv4.address=none ipv6.address=none >&2 &&
        break
    sleep {sandbox.PAUSE}
done
echo "$INCUS_DIR"
"""


@pytest.fixture(autouse=True)
def no_incus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Hide the Incus that the machine or the tests may have running."""
    monkeypatch.setenv("INCUS_DIR", str(tmp_path))
    monkeypatch.delenv("INCUS_PROJECT", raising=False)


@contextmanager
def _run(command: str) -> Iterator["subprocess.Popen[str]"]:
    """Run a command with a private Incus; it reads a pipe of ours."""
    with subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.support.daemon", "run", "--"),
            *("sh", "-c", command),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        yield process


def _home(process: "subprocess.Popen[str]") -> Path:
    """Wait for the command to start; give the daemon's directory."""
    assert process.stdout
    return Path(process.stdout.readline().strip()).parent


def _bridge_exists() -> bool:
    return Path("/sys/class/net", _BRIDGE).exists()


def test_gives_the_status_of_the_command() -> None:
    with _run(f"{_COMMAND} exit 7") as process:
        home = _home(process)
        assert process.wait(_PATIENCE) == 7
    assert home.is_relative_to(daemon.BASE)
    assert not home.exists()
    assert not _bridge_exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stops_when_interrupted(number: signal.Signals) -> None:
    with _run(f"{_COMMAND} read line <&3") as process:
        home = _home(process)
        assert _bridge_exists()
        os.killpg(process.pid, number)
        assert process.wait(_PATIENCE) == 128 + number
    assert not home.exists()
    assert not _bridge_exists()


def test_next_run_clears_up_after_a_killed_one() -> None:
    with _run(f"{_COMMAND} read line <&3") as process:
        home = _home(process)
        process.kill()
    daemon.wait_until_free(home)
    assert home.exists()

    with daemon.running():
        pass

    assert not home.exists()
    assert not _bridge_exists()


def test_says_why_it_did_not_start(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "incusd"
    program.write_text("#!/bin/sh\necho 'no room on the disk'\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(daemon, "_INCUSD", program)

    with (
        pytest.raises(daemon.DaemonError, match="no room on the disk"),
        daemon.running(),
    ):
        pass


def test_comes_back_after_a_crash() -> None:
    with daemon.private() as incus:
        assert incus.crashes() == []
        os.kill(incus.incusd(), signal.SIGSEGV)
        deadline = time.monotonic() + _PATIENCE
        while not incus.crashes() and time.monotonic() < deadline:
            time.sleep(0.1)
        (said,) = incus.crashes()
        assert said.startswith("SIGSEGV")
        incus.wait_until_whole()
        assert _incus(incus, "list", "--format=csv") == ""


def test_kept_state_is_there_again() -> None:
    name = "test-kept"
    try:
        with daemon.running(keep=name) as first:
            _incus(first, "config", "set", "user.test=seen")
        with daemon.running(keep=name) as second:
            assert _incus(second, "config", "get", "user.test") == "seen\n"
    finally:
        shutil.rmtree(daemon.BASE / name)


def _incus(incus: daemon.Daemon, *words: str) -> str:
    return subprocess.run(
        ["incus", *words],
        env={**os.environ, **incus.environment},
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
