# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that runs the commands of this virt server."""

import os
import subprocess

from incus_testbed.process import programs
from incus_testbed.virt_server import command

#: Seconds for it to end: nothing runs there any more.
_END_LIMIT = 5.0


class Forkserver:
    """A forkserver as long as this process lives.

    Where it is not there, yet or any more, each command is a program of its
    own (command.py), so that nothing depends on it.
    """

    def __init__(self) -> None:
        """Start it; it is not waited for."""
        self.name = os.urandom(8).hex()
        self._process = programs.companion([*command.FORKSERVER, self.name])

    def close(self) -> None:
        """End it, with what still runs there."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(_END_LIMIT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
