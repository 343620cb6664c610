# SPDX-License-Identifier: GPL-3.0-or-later
"""The virt server's other end: what autopkgtest does, one line at a time."""

import os
import select
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

#: The name by which autopkgtest finds it on PATH.
COMMAND = "autopkgtest-virt-incus-testbed"
#: Seconds for anything: it only keeps a hanging server from hanging the run.
LIMIT = 60


@dataclass(frozen=True, kw_only=True)
class End:
    """How a server ended: its status and what it said on standard error."""

    status: int
    said: str


class Server:
    """A running virt server."""

    def __init__(
        self, *arguments: str, program: str = COMMAND, **options: Any
    ) -> None:
        """Start it; ``options`` are those of subprocess.Popen."""
        settings = {"stderr": subprocess.PIPE, **options}
        self.process: subprocess.Popen[bytes] = subprocess.Popen(
            [program, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            **settings,
        )
        self._read = b""
        assert self.reply() == ["ok"]

    def send(self, line: str | bytes) -> None:
        """Send a line."""
        assert self.process.stdin
        data = line if isinstance(line, bytes) else line.encode()
        self.process.stdin.write(data + b"\n")

    def reply(self, limit: float = LIMIT) -> list[str]:
        """Return the words of the next line; none at the end of the file."""
        assert self.process.stdout
        deadline = time.monotonic() + limit
        while b"\n" not in self._read:
            left = max(0, deadline - time.monotonic())
            ready, _, _ = select.select([self.process.stdout], [], [], left)
            assert ready, "the server does not answer"
            data = os.read(self.process.stdout.fileno(), 65536)
            if not data:
                return []
            self._read += data
        line, _, self._read = self._read.partition(b"\n")
        return line.decode().split(" ")

    def ask(self, command: str, *arguments: str) -> list[str]:
        """Send a command that has to work; return its results."""
        self.send(" ".join([command, *map(quote, arguments)]))
        reply = self.reply()
        assert reply[:1] == ["ok"], (command, reply or self.end())
        return reply[1:]

    def try_(self, command: str, *arguments: str) -> str:
        """Send a command; return the first word of the answer."""
        self.send(" ".join([command, *map(quote, arguments)]))
        return self.reply()[0]

    def bomb(self, line: str | bytes) -> str:
        """Send what the server has to give up on; return what it says."""
        self.send(line)
        end = self.end()
        assert end.status == 12, end
        assert "Traceback" not in end.said
        return end.said

    def end(self) -> End:
        """Send the end of the file, and wait until the server has ended."""
        _, said = self.process.communicate(timeout=LIMIT)
        return End(
            status=self.process.returncode,
            said=(said or b"").decode(errors="replace"),
        )

    def quit(self) -> End:
        """Ask the server to end, as it has to do without complaint."""
        self.send("quit")
        end = self.end()
        assert end.status == 0, end
        return end

    def auxverb(self) -> list[str]:
        """Return the words that run the command that follows them."""
        (words,) = self.ask("print-execute-command")
        return [unquote(word) for word in words.split(",")]

    def execute(
        self, *command: str, stdin: bytes = b""
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run a command in the testbed."""
        return subprocess.run(
            [*self.auxverb(), *command],
            input=stdin,
            capture_output=True,
            timeout=LIMIT,
            check=False,
        )

    def output(self, *command: str) -> str:
        """Return what a command in the testbed says; it has to work."""
        done = self.execute(*command)
        assert done.returncode == 0, done
        return done.stdout.decode().removesuffix("\n")

    def boot(self) -> str:
        """Return what tells this boot of the testbed from all others."""
        return self.output("cat", "/proc/sys/kernel/random/boot_id")


def environment(**settings: str) -> Mapping[str, str]:
    """Return this process's environment with changes."""
    return {**os.environ, **settings}
