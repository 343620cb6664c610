# SPDX-License-Identifier: GPL-3.0-or-later
"""A program's output as a source: it ends only if the program succeeds.

Its messages go to a file without a name: a pipe that nobody reads would stop
the program.
"""

import os
import subprocess
from typing import IO

from incus_testbed import errors
from incus_testbed.process import programs

#: Lines and bytes of its last messages that an error shows.
SHOWN_LINES = 15
_SHOWN_BYTES = 1 << 13


class Producer:
    """The output of a program that runs."""

    def __init__(
        self,
        name: str,
        child: "subprocess.Popen[bytes]",
        messages: IO[bytes],
        limit: float,
    ) -> None:
        """Take the process, and the file that it writes messages to.

        ``limit``: the seconds that it may take to end after its output has.
        """
        assert child.stdout  # noqa: S101
        self._name = name
        self._child = child
        self._stdout = child.stdout
        self._messages = messages
        self._limit = limit

    def read(self, size: int, /) -> bytes:
        """Return up to size bytes; none after the program's success only.

        :raises errors.CommandFailed: it failed
        :raises errors.TimedOut: it does not end
        """
        if data := os.read(self._stdout.fileno(), size):
            return data
        self.finish()
        return b""

    def finish(self) -> None:
        """Wait for the program's success when its output was read.

        :raises errors.CommandFailed: it failed
        :raises errors.TimedOut: it does not end
        """
        try:
            status = self._child.wait(self._limit)
        except subprocess.TimeoutExpired:
            raise errors.TimedOut(
                f"{self._name} has sent all of its output, and does not end",
                details=self.last_lines(),
            ) from None
        if status:
            raise errors.CommandFailed(
                f"{self._name} {programs.ending(status)}",
                details=self.last_lines(),
                resolution=self.advice(),
            )

    def said(self) -> str:
        """Return the end of its messages."""
        descriptor = self._messages.fileno()
        size = os.fstat(descriptor).st_size
        start = max(0, size - _SHOWN_BYTES)
        return os.pread(descriptor, _SHOWN_BYTES, start).decode(
            errors="replace"
        )

    def last_lines(self) -> str:
        """Return what of its messages tells why it failed."""
        lines = self.said().splitlines()
        return "\n".join(lines[-SHOWN_LINES:])

    def advice(self) -> str:
        """Return what the user can do after a failure."""
        return ""
