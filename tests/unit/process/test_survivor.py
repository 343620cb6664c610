# SPDX-License-Identifier: GPL-3.0-or-later
"""A copy of a process outlives it, and nothing hears of it."""

import os
import signal
import time
from pathlib import Path

import pytest

from incus_testbed.process import survivor


def test_what_is_left_to_a_copy_is_not_waited_for(tmp_path: Path) -> None:
    said = tmp_path / "said"
    reading, writing = os.pipe()

    def act() -> None:
        time.sleep(1)
        open_files = sorted(
            int(each.name) for each in Path("/proc/self/fd").iterdir()
        )
        words = [Path.cwd(), os.getsid(0) != os.getpid(), open_files[:4]]
        (tmp_path / "new").write_text(f"{words}")
        (tmp_path / "new").rename(said)

    session = os.getsid(0)
    survivor.leave(act)
    os.close(writing)

    assert os.read(reading, 1) == b""  # the copy does not hold it open
    os.close(reading)
    assert not said.exists()
    for _ in range(600):
        if said.exists():
            break
        time.sleep(0.1)
    assert said.read_text() == f"{[Path('/'), True, [0, 1, 2, 3]]}"
    assert os.getsid(0) == session
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


def test_what_a_copy_fails_at_is_not_heard_of(
    capfd: pytest.CaptureFixture[str],
) -> None:
    survivor.leave(lambda: 1 // 0)
    time.sleep(0.5)
    assert tuple(capfd.readouterr()) == ("", "")


def test_a_signal_does_not_end_what_is_left_to_a_copy(tmp_path: Path) -> None:
    """All of the process group gets those of a terminal."""

    def act() -> None:
        time.sleep(1)
        (tmp_path / "said").touch()

    child = os.fork()
    if not child:
        try:
            os.setsid()
            survivor.leave(act)
            os.killpg(0, signal.SIGINT)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    for _ in range(600):
        if (tmp_path / "said").exists():
            break
        time.sleep(0.1)
    assert (tmp_path / "said").exists()
