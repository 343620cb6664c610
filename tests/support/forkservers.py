# SPDX-License-Identifier: GPL-3.0-or-later
"""A forkserver that is ready for callers."""

import contextlib
import socket
from collections.abc import Iterator

from incus_testbed.incus.exec import forked
from incus_testbed.virt_server.forkserver import Forkserver
from tests.support.fake_incusd import wait_for


@contextlib.contextmanager
def running() -> Iterator[Forkserver]:
    """Have one run meanwhile."""
    server = Forkserver()
    try:
        wait_for(lambda: listens(server.name))
        yield server
    finally:
        server.close()


def listens(name: str) -> bool:
    """Tell whether one of this name is there."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        return caller.connect_ex(forked.address(name)) == 0
