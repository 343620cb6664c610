# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that runs the commands of this virt server."""

import os
import time
from typing import NoReturn

from incus_testbed.incus.exec import forked, forkserver
from incus_testbed.process import detached

#: Seconds for it to end, and between two looks: nothing runs there any more.
_END_LIMIT, _PAUSE = 5.0, 0.005


class Forkserver:
    """A forkserver as long as this process lives.

    Where it is not there any more, or can't be, each command is a program of
    its own (command.py), so that nothing depends on it.

    It is a copy of this process, which is to be small then.  A program of its
    own would take 18 ms of the processor to start, the copy takes 1.
    """

    def __init__(self) -> None:
        """Start it; it is not waited for."""
        self.name = os.urandom(8).hex()
        forked.settle()
        owner, self._alive = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            self._serve(owner)
        os.close(owner)

    def _serve(self, owner: int) -> NoReturn:
        """Be it; nothing above may go on."""
        try:
            os.setsid()
            detached.let_go(owner)
            forkserver.Forkserver(self.name).serve(owner=0)
        finally:
            os._exit(0)

    def close(self) -> None:
        """End it, with what still runs there."""
        os.close(self._alive)
        deadline = time.monotonic() + _END_LIMIT
        while not os.waitpid(self.pid, os.WNOHANG)[0]:
            if time.monotonic() > deadline:
                os.kill(self.pid, 9)
                os.waitpid(self.pid, 0)
                return
            time.sleep(_PAUSE)
