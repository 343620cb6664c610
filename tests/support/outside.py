# SPDX-License-Identifier: GPL-3.0-or-later
"""Services that a testbed may try to reach: on this host, and beyond it.

What is beyond the host is a network namespace, linked to the host by a pair of
interfaces that only these tests have.
"""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence

from tests.support import attempts

#: For documentation (RFC 5737, RFC 3849): no machine has these addresses.
HOST, WORLD = "198.51.100.1", "198.51.100.2"
HOST6, WORLD6 = "2001:db8::1", "2001:db8::2"
#: Where clouds tell a machine about itself, and a private address.
METADATA, PRIVATE = "169.254.169.254", "10.213.77.2"

_INSIDE = "outside0"


@contextlib.contextmanager
def services() -> Iterator[None]:
    """Have services on all addresses of this host, and on three beyond it.

    HOST is one of this host's; the others are beyond it.
    """
    interface = f"chko{os.getpid()}"
    with _serving(), _serving("unshare", "--net") as process:
        # Both ends go with the namespace.
        _ip(
            *("link", "add", interface, "type", "veth"),
            *("peer", "name", _INSIDE, "netns", str(process)),
        )
        _ip("address", "add", f"{HOST}/30", "dev", interface)
        six = ("dev", interface, "nodad")
        _ip("address", "add", f"{HOST6}/64", *six)
        _ip("link", "set", interface, "up")
        there = ("nsenter", f"--net=/proc/{process}/ns/net")
        for address in (f"{WORLD}/30", f"{METADATA}/32", f"{PRIVATE}/32"):
            _ip("address", "add", address, "dev", _INSIDE, prefix=there)
        six = ("dev", _INSIDE, "nodad")
        _ip("address", "add", f"{WORLD6}/64", *six, prefix=there)
        _ip("link", "set", _INSIDE, "up", prefix=there)
        for address in (METADATA, PRIVATE):
            _ip("route", "add", f"{address}/32", "via", WORLD)
        yield


@contextlib.contextmanager
def _serving(*prefix: str) -> Iterator[int]:
    """Run services; give their process."""
    with subprocess.Popen(
        [
            *("setpriv", "--pdeathsig", "KILL", *prefix),
            *(sys.executable, attempts.__file__, "serve"),
        ],
        stdout=subprocess.PIPE,
    ) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == b"listening\n"
            yield process.pid
        finally:
            process.kill()


def _ip(*words: str, prefix: Sequence[str] = ()) -> None:
    subprocess.run([*prefix, "ip", *words], check=True)
