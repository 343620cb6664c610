# SPDX-License-Identifier: GPL-3.0-or-later
"""The process that owns an instance or an unfinished image.

Incus keeps the owner as text, and a copy of an image takes it to other
machines.  So the machine-id, boot id and pid in it are hashed or encrypted:
machine-id(5) asks to keep the id confidential.
"""

import contextlib
import functools
import hashlib
import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Self, TypeAlias

#: The kernel's limit for pids (PID_MAX_LIMIT, proc(5)).
_LARGEST_PID = 1 << 22
_PERSON = b"incus-testbed"
#: Characters of a host that are shown.
HOST_ID_LENGTH = 8


@dataclass(frozen=True, kw_only=True)
class Owner:
    """One process, different from every other one, now and in the past.

    ``host`` identifies the machine (or container) in all its boots, and
    ``boot`` identifies the boot.  Both are hashes that only this software can
    use.  ``pid_namespace`` is the inode of /proc/PID/ns/pid.  ``started`` is
    the start of the process in clock ticks after boot (field 22 of
    /proc/PID/stat, proc(5)); a later process with the same pid has another.

    If the process runs on another machine, only ``host`` is known.
    """

    host: str
    boot: str = ""
    pid_namespace: int = 0
    pid: int = 0
    started: int = 0

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
        """Read the text that str() wrote; None if it is something else."""
        sealed = re.fullmatch(r"([0-9a-f]{32})\.((?:[0-9a-f]{2}){8,256})", text)
        if not sealed:
            return None
        host = sealed[1]
        if host != _host():
            return cls(host=host)
        fields = re.fullmatch(
            r"([^/]+)/(\d{1,20})/(\d{1,7})/(\d{1,20})",
            _opened(bytes.fromhex(sealed[2])) or "",
            re.ASCII,
        )
        if not fields or int(fields[3]) > _LARGEST_PID:
            return None
        return cls(
            host=host,
            boot=fields[1],
            pid_namespace=int(fields[2]),
            pid=int(fields[3]),
            started=int(fields[4]),
        )

    @property
    def host_id(self) -> str:
        """The host in as few characters as tell hosts apart in practice."""
        return self.host[:HOST_ID_LENGTH]

    def __str__(self) -> str:
        """Return one word that Incus can store as the value of a key."""
        fields = (self.boot, self.pid_namespace, self.pid, self.started)
        return f"{self.host}.{_sealed('/'.join(map(str, fields))).hex()}"

    def is_gone(self, *, only_here: Callable[[], bool], lost: str = "") -> bool:
        """Tell whether the process is certain to have ended.

        ``only_here`` tells whether what it owns is on a server of this machine
        alone; it is asked only if that matters.  On any other server a machine
        with our machine-id may be a clone of this one, and another boot its
        present one.  So what can't be judged from here counts as alive: what
        another machine owns, or another container on this one, or a process
        that this user can't see.

        ``lost`` is the host that an admin has given up.  Nothing of it runs
        any more; if it is this machine, nothing of its earlier boots.
        """
        if self.host != _host():
            return self.host == lost
        if self.boot != _boot():
            return self.host == lost or only_here()
        if self.pid_namespace != _pid_namespace():
            return False
        return not _is_alive(self.pid, self.started)


#: Tells whether an owner is certain to have ended.
Judge: TypeAlias = Callable[[Owner], bool]


def judge(only_here: Callable[[], bool], *, lost: str = "") -> Judge:
    """Return what judges the owners of what is on one server, as is_gone()."""
    return functools.partial(Owner.is_gone, only_here=only_here, lost=lost)


def _hash(secret: str, purpose: str) -> str:
    """Return an application-specific hash, which does not reveal the secret."""
    return _keyed(secret, purpose.encode()).hexdigest()


def _keyed(secret: str, data: bytes) -> "hashlib.blake2b":
    key = secret.encode()[: hashlib.blake2b.MAX_KEY_SIZE]
    return hashlib.blake2b(data, key=key, person=_PERSON, digest_size=16)


def _sealed(text: str) -> bytes:
    """Encrypt a text for processes of this machine.

    A keyed hash of the text is both the check value and the seed of the key
    stream.  So the same text always has the same encrypted form.
    """
    data = text.encode()
    check = _keyed(_machine(), data).digest()
    return check + _xor(data, check)


def _opened(sealed: bytes) -> str | None:
    """Decrypt a text; None if it was not encrypted on this machine."""
    check, data = sealed[:16], _xor(sealed[16:], sealed[:16])
    if _keyed(_machine(), data).digest() != check:
        return None
    return data.decode()


def _xor(data: bytes, seed: bytes) -> bytes:
    key = _keyed(_machine(), b"stream" + seed).digest()
    stream = hashlib.shake_256(key).digest(len(data))
    return bytes(a ^ b for a, b in zip(data, stream, strict=True))


@cache
def _machine() -> str:
    """Return the machine-id, which identifies this machine."""
    try:
        machine = Path("/etc/machine-id").read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError):
        machine = ""
    return machine or socket.gethostname().replace("/", "_") or "localhost"


@cache
def _host() -> str:
    return _hash(_machine(), "host")


@cache
def _boot() -> str:
    boot_id = Path("/proc/sys/kernel/random/boot_id")
    return _hash(boot_id.read_text(encoding="ascii").strip(), "boot")


def _pid_namespace() -> int:
    return Path("/proc/self/ns/pid").stat().st_ino


def _is_alive(pid: int, started: int) -> bool:
    """Tell whether the process with this pid and start time may be running.

    A /proc mounted with hidepid=1 or 2 (proc(5)) hides the processes of other
    users.  A signal shows whether such a process exists: the kernel refuses
    the signal with another error than for a pid that does not exist.
    """
    try:
        return _started(pid) == started
    except OSError:
        pass
    with contextlib.suppress(PermissionError):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
    return True


def _started(pid: int) -> int | None:
    """Return a process's start time; None for a zombie.

    :raises OSError: it has ended, or is hidden from this user
    """
    stat = Path(f"/proc/{pid}/stat").read_bytes()
    # The second field, a name in parentheses, can hold any character.
    fields = stat[stat.rindex(b")") + 1 :].split()
    state, started = fields[0], int(fields[19])
    return None if state in b"ZX" else started
