# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest, seen from beside the implementation that is under test."""

import time
from collections.abc import Iterable
from pathlib import PurePath

from incus_testbed.incus.client import Incus

from .pace import PACE

_LIMIT = 60 * PACE
#: Seconds in which a command comes to run.
_STARTING = 20 * PACE
#: Seconds in which the kernel is through with killing.
_DYING = 2 * PACE


class Guest:
    """Looks into a running instance without the implementation's help."""

    def __init__(self, incus: Incus, name: str) -> None:
        """Look into the instance of this name."""
        self._incus = incus
        self._name = name

    def ask(self, script: str, *arguments: str | PurePath) -> str:
        """Return what a shell script, run as root, prints; it must succeed."""
        return self.output(script, *arguments).decode()

    def output(self, script: str, *arguments: str | PurePath) -> bytes:
        """Return the same as it is."""
        done = self._incus.execute(
            self._name,
            ["sh", "-c", script, "sh", *map(str, arguments)],
            timeout=_LIMIT,
        )
        assert done.status == 0, done.stderr
        return done.stdout

    def read(self, path: PurePath) -> bytes:
        """Return a file's content."""
        return self.output('cat "$1"', path)

    def write(self, path: PurePath, text: str) -> None:
        """Make a file."""
        self.ask('printf %s "$2" >"$1"', path, text)

    def stat(self, path: PurePath, what: str = "%U:%G %a") -> str:
        """Return owner, group and mode of a path, or another format."""
        return self.ask('stat --format="$2" "$1"', path, what).strip()

    def pids(self, mark: str) -> list[str]:
        """Return the processes that have a word in their command lines."""
        # The script has the word apart: this shell is not one of them.
        return self.ask(
            """for process in /proc/[0-9]*; do
                [ "${process#/proc/}" = $$ ] ||
                    ! tr '\\0' '\\n' <"$process/cmdline" 2>/dev/null |
                    grep -q -e "$1$2" || echo "${process#/proc/}"
            done""",
            mark[0],
            mark[1:],
        ).split()

    def wait_for(self, mark: str) -> None:
        """Wait until there is such a process."""
        deadline = time.monotonic() + _STARTING
        while not self.pids(mark):
            assert time.monotonic() < deadline, f"no {mark} is running"
            time.sleep(0.1)

    def wait_until_gone(self, mark: str) -> list[str]:
        """Return which of these processes are still there after a moment."""
        deadline = time.monotonic() + _DYING
        while (left := self.pids(mark)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return left

    def kill(self, pids: Iterable[str]) -> None:
        """Kill processes, gone or not."""
        self.ask('kill -9 "$@" 2>/dev/null || :', *pids)
