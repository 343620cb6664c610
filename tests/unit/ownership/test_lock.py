# SPDX-License-Identifier: GPL-3.0-or-later
"""One process at a time, and a dead one holds nobody off."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from incus_testbed import errors
from incus_testbed.ownership import lock

_HOLD = """
import sys
import time
from incus_testbed.ownership import lock
with lock.held("x", timeout=30):
    print("held", flush=True)
    sys.stdin.read()
"""

_COUNT = """
import sys
import time
from incus_testbed.ownership import lock
for _ in range(20):
    with lock.held("x", timeout=60):
        with open(sys.argv[1], "r+") as file:
            count = int(file.read())
            time.sleep(0.001)
            file.seek(0)
            file.write(str(count + 1))
"""


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def _python(script: str, *arguments: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def test_second_waits_says_so_and_gives_up_in_time(
    caplog: pytest.LogCaptureFixture,
) -> None:
    holder = _python(_HOLD)
    assert holder.stdout
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(errors.TimedOut, match="Another process"),
        lock.held("x", timeout=0.3),
    ):
        pass
    assert caplog.messages == ["another process works on x: waiting for it"]
    holder.communicate("")
    with lock.held("x", timeout=0):
        pass


def test_killed_holder_lets_go() -> None:
    holder = _python(_HOLD)
    assert holder.stdout
    holder.stdout.readline()
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with lock.held("x", timeout=0):
        pass


def test_no_two_at_once(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    counter.write_text("0")
    children = [_python(_COUNT, str(counter)) for _ in range(6)]
    for child in children:
        child.communicate()
        assert child.returncode == 0
    assert counter.read_text() == "120"


def test_unusable_folder_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "file"
    file.touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(file))
    with pytest.raises(errors.Denied, match="XDG_CACHE_HOME"):
        lock.held("x", timeout=0).__enter__()


def test_there_are_few_files_however_many_names(tmp_path: Path) -> None:
    for number in range(2000):
        with lock.held(f"image artifact/{number}", timeout=0):
            pass
    assert len(list((tmp_path / "incus-testbed").iterdir())) <= 256
