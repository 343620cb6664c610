# SPDX-License-Identifier: GPL-3.0-or-later
"""autopkgtest's --shell and --shell-fail, at a terminal."""

import contextlib
import os
import pty
import select
import time
from pathlib import Path

import pytest

from .runs import PACKAGES

_LIMIT = 120
pytestmark = pytest.mark.usefixtures("nothing_left")


class Terminal:
    """A terminal with a program in it."""

    def __init__(self, *argv: str) -> None:
        """Start the program, with the terminal as its controlling one."""
        self.pid, self._descriptor = pty.fork()
        if self.pid == 0:
            os.execvp(argv[0], argv)  # noqa: S606
        self.said = ""
        self._seen = 0

    def wait_for(self, text: str) -> None:
        """Read until the program has said this, after what was waited for."""
        deadline = time.monotonic() + _LIMIT
        while text not in self.said[self._seen :]:
            left = max(0, deadline - time.monotonic())
            ready, _, _ = select.select([self._descriptor], [], [], left)
            assert ready, self.said[-2000:]
            self.said += os.read(self._descriptor, 4096).decode(
                errors="replace"
            )
        self._seen = self.said.index(text, self._seen) + len(text)

    def type(self, text: str) -> None:
        """Type a line."""
        os.write(self._descriptor, text.encode() + b"\n")

    def end(self) -> int:
        """Read to the end; return the exit status."""
        try:
            while data := os.read(self._descriptor, 4096):
                self.said += data.decode(errors="replace")
        except OSError:  # EIO: the last one has closed it
            pass
        os.close(self._descriptor)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


@pytest.mark.parametrize(
    ("option", "test", "status"),
    [("--shell", "exit-0", 0), ("--shell-fail", "exit-1", 4)],
)
def test_shell(
    bookworm: str, tmp_path: Path, option: str, test: str, status: int
) -> None:
    terminal = Terminal(
        *("autopkgtest", option, f"--output-dir={tmp_path / 'output'}"),
        *("--no-built-binaries", str(PACKAGES / "odd-ends")),
        *(f"--test-name={test}", "--", "incus-testbed", bookworm),
    )
    terminal.wait_for("# ")
    terminal.type("tty; echo sum=$((40 + 2)); echo tmp=$AUTOPKGTEST_TMP; pwd")
    terminal.wait_for("sum=42")
    _check_no_settings_on_the_command_line()
    terminal.wait_for("# ")
    terminal.type("exit")
    assert terminal.end() == status, terminal.said[-2000:]
    assert "/dev/" in terminal.said
    assert "not a tty" not in terminal.said


def _check_no_settings_on_the_command_line() -> None:
    """Everybody on this machine can read the one that the shell hangs on."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            lines.append(path.read_bytes())
    shells = [line for line in lines if b"--force-interactive" in line]
    assert shells
    assert not [line for line in shells if b"AUTOPKGTEST_TMP=" in line]
