# SPDX-License-Identifier: GPL-3.0-or-later
"""What a step costs: the time that passes, and the time of processors."""

import contextlib
import functools
import os
import resource
import socket
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.bench import crowd


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a step took: seconds, and seconds of processors.

    The latter say more on a busy machine.  They are those of the programs and
    of the Incus daemon, without what boots in a guest.
    """

    seconds: float
    processor: float


def processor_time() -> float:
    """Return the seconds of programs that have ended, and of the daemon."""
    mine = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    stat = (
        Path(f"/proc/{_daemon()}/stat").read_text().rpartition(")")[2].split()
    )
    ticks = int(stat[11]) + int(stat[12])  # utime and stime, proc(5)
    return (
        mine.ru_utime
        + mine.ru_stime
        + children.ru_utime
        + children.ru_stime
        + ticks / os.sysconf("SC_CLK_TCK")
    )


@functools.cache
def _daemon() -> int:
    """Return the process of the daemon; of its service, if systemd listens."""
    with contextlib.closing(crowd.connected()) as connection:
        size = struct.calcsize("3i")
        credentials = connection.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, size
        )
    pid, _, _ = struct.unpack("3i", credentials)
    if pid != 1:
        return int(pid)
    asked = ("systemctl", "show", "--property=MainPID", "--value", "incus")
    return int(subprocess.check_output(asked))
