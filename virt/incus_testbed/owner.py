# SPDX-License-Identifier: GPL-3.0-or-later
"""Who an instance or an unfinished image belongs to: a process."""

import os
import re
import socket
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self


@dataclass(frozen=True, kw_only=True)
class Owner:
    """One process, told apart from all others there are and have been.

    ``host`` names the machine (and container) across its boots, ``boot`` is
    the kernel's boot_id, ``pid_namespace`` the inode of /proc/PID/ns/pid, and
    ``started`` the process's start in clock ticks after boot (field 22 of
    /proc/PID/stat, proc(5)), which no later process of the same pid shares.
    """

    host: str
    boot: str
    pid_namespace: int
    pid: int
    started: int

    @classmethod
    def current(cls) -> Self:
        """Return this process."""
        pid = os.getpid()
        return cls(
            host=_host(),
            boot=_boot(),
            pid_namespace=_pid_namespace(),
            pid=pid,
            started=_started(pid) or 0,
        )

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read what str() wrote; None where it is something else."""
        fields = re.fullmatch(r"([^/]+)/([^/]+)/(\d+)/(\d+)/(\d+)", text)
        if not fields:
            return None
        host, boot, namespace, pid, started = fields.groups()
        return cls(
            host=host,
            boot=boot,
            pid_namespace=int(namespace),
            pid=int(pid),
            started=int(started),
        )

    def __str__(self) -> str:
        """Return one word that Incus can keep as a key's value."""
        return (
            f"{self.host}/{self.boot}/{self.pid_namespace}"
            f"/{self.pid}/{self.started}"
        )

    def is_gone(self) -> bool:
        """Tell whether the process is certain to have ended.

        What another machine, or another container on this one, owns can't be
        judged from here and counts as alive.
        """
        if self.host != _host():
            return False
        if self.boot != _boot():
            return True
        if self.pid_namespace != _pid_namespace():
            return False
        return _started(self.pid) != self.started


@cache
def _host() -> str:
    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except OSError:
        machine = ""
    return machine or socket.gethostname().replace("/", "_") or "localhost"


@cache
def _boot() -> str:
    boot_id = Path("/proc/sys/kernel/random/boot_id")
    return boot_id.read_text(encoding="ascii").strip()


def _pid_namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino


def _started(pid: int) -> int | None:
    """Return a process's start time; None where it is gone or a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The second field, a name in parentheses, can hold any character.
    fields = stat[stat.rindex(b")") + 1 :].split()
    state, started = fields[0], int(fields[19])
    return None if state in b"ZX" else started
