# SPDX-License-Identifier: GPL-3.0-or-later
"""A forkserver that is ready for callers."""

import contextlib
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from incus_testbed.incus.exec import forked
from tests.support.fake_incusd import wait_for

_OWNER = f"""
import sys
sys.path[:0] = {sys.path!r}
from incus_testbed.virt_server.forkserver import Forkserver
server = Forkserver()
print(server.name, server.pid, flush=True)
sys.stdin.read()
server.close()
"""


@dataclass(frozen=True, kw_only=True)
class Running:
    """A forkserver, and the process that owns it."""

    name: str
    pid: int
    owner: "subprocess.Popen[str]"


@contextlib.contextmanager
def running() -> Iterator[Running]:
    """Have one run meanwhile."""
    with subprocess.Popen(
        [sys.executable, "-c", _OWNER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout
        name, pid = owner.stdout.readline().split()
        wait_for(lambda: listens(name))
        yield Running(name=name, pid=int(pid), owner=owner)


def listens(name: str) -> bool:
    """Tell whether one of this name is there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        return caller.connect_ex(forked.address(name)) == 0
