# SPDX-License-Identifier: GPL-3.0-or-later
"""Check how the kernel counts what each testbed takes of a btrfs pool.

Incus limits a root disk by quotas of btrfs.  It enables the full ones, which
follow each block through all snapshots.  When many testbeds end, all that comes
after waits for that: sixteen testbeds at once took 12 s in a new pool and 45 s
the ninth time.  Simple quotas count who has written a block: 11 s each time.
Linux and btrfs-progs have them since 6.7.  Incus takes quotas as it finds them.
"""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from shlex import join
from typing import Any

from incus_testbed import errors
from incus_testbed.host import pool
from incus_testbed.host.requirement import Finding, State, failed, good
from incus_testbed.incus.client import Incus
from incus_testbed.process import programs

#: What uses a pool and has no limit there: disabling quotas does no harm to it.
_UNLIMITED = ("/1.0/images/", "/1.0/profiles/")
#: The mode of simple quotas (qgroup_mode_show in Linux' fs/btrfs/sysfs.c).
_SIMPLE = "squota"
_SLOW = "launches get slower where many testbeds end one after the other"


@dataclass(frozen=True, kw_only=True)
class Kernel:
    """Where the kernel tells of itself."""

    mounts: Path = Path("/proc/self/mountinfo")
    btrfs: Path = Path("/sys/fs/btrfs")

    def has_simple(self) -> bool:
        """Tell whether it has simple quotas."""
        return (self.btrfs / "features/simple_quota").exists()

    def file_system(self, place: Path) -> "_Mounted | None":
        """Return the btrfs that a place is on, if it is on one."""
        best, found = -1, None
        for mount, kind, root, source in self._mounts():
            if place.is_relative_to(mount) and len(mount.parts) >= best:
                best = len(mount.parts)
                found = _Mounted(
                    kind=kind,
                    device=Path(source).resolve().name,
                    whole=root == "/" and mount == place,
                )
        return found if found and found.kind == "btrfs" else None

    def shows_below(self, place: Path) -> bool:
        """Tell whether something is mounted below a place, and seen here."""
        return any(place in mount.parents for mount, *_ in self._mounts())

    def _mounts(self) -> Iterator[tuple[Path, str, str, str]]:
        """Yield each mount: where, what kind, what part, and its source."""
        for line in self.mounts.read_text(errors="replace").splitlines():
            # The fields are those of proc_pid_mountinfo(5).
            about, _, of_system = line.partition(" - ")
            _, _, _, root, at, *_ = about.split(" ")
            kind, source, *_ = of_system.split(" ")
            yield Path(_unescaped(at)), kind, root, _unescaped(source)

    def mode(self, system: "_Mounted") -> str | None:
        """Return the mode of a file system's quotas; empty: it has none.

        None if the kernel does not show the file system by that device.
        Kernels without simple quotas tell no mode.
        """
        for device in self.btrfs.glob(f"*/devices/{system.device}"):
            quotas = device.parents[1] / "qgroups"
            if not quotas.exists():
                return ""
            try:
                return (quotas / "mode").read_text().strip()
            except FileNotFoundError:
                return "qgroup"
        return None


@dataclass(frozen=True, kw_only=True)
class _Mounted:
    """A mounted file system; ``whole``: the place has all of it."""

    kind: str
    device: str
    whole: bool


def check(
    incus: Incus, pool_name: str, kernel: Kernel | None = None
) -> Finding:
    """Check the quotas of a pool of this machine; the fix needs root.

    There is a fix only for a file system that is the pool's alone, and only if
    no present instance loses its limit.
    """
    kernel = kernel or Kernel()
    place = pool.state_directory() / "storage-pools" / pool_name
    found = next((p for p in incus.pools() if p["name"] == pool_name), None)
    if found is None:
        return _of_new(pool.new(incus, pool_name, local=True), place, kernel)
    if found["driver"] == "dir":
        # It has some where its file system has project quotas, which is rare.
        return _note("none of the driver dir: a testbed can fill the disk")
    if found["driver"] != "btrfs":
        return good(f"those of {found['driver']}")
    return _of_btrfs(found, place, kernel)


def _of_new(made: pool.New, place: Path, kernel: Kernel) -> Finding:
    """Return the finding about a pool that is to be made before the fix."""
    detail = "there is no pool yet"
    if (
        made.driver == "btrfs"
        and made.in_file
        # The daemon has mounts there; if they are hidden, the pool's is too.
        and kernel.shows_below(pool.state_directory())
        and _can_be_simple(kernel)
        and os.geteuid() == 0
    ):
        return failed(detail, fix=(_enable(place),))
    return _unknown(detail)


def _of_btrfs(found: Mapping[str, Any], place: Path, kernel: Kernel) -> Finding:
    system = kernel.file_system(place)
    if system is None:
        return _unknown("its file system is not mounted here")
    mode = kernel.mode(system)
    if mode is None:
        return _unknown(f"the kernel shows no btrfs on {system.device}")
    if mode == _SIMPLE:
        return good("simple")
    if not _can_be_simple(kernel):
        return _note(
            f"full ones: {_SLOW}",
            "Linux 6.7 and btrfs-progs 6.7, as in Debian 13, have simple ones",
        )
    return _change(found, system, place, mode)


def _change(
    found: Mapping[str, Any], system: _Mounted, place: Path, mode: str
) -> Finding:
    """Return the finding about quotas that can be simple, but are not."""
    disable = ("btrfs", "quota", "disable", str(place))
    commands = (disable, _enable(place)) if mode else (_enable(place),)
    detail = f"not simple: {_SLOW}"
    in_words = " && ".join(map(join, commands))
    if not system.whole:
        return _note(
            detail,
            "It is a file system of this machine, which can then not be used"
            f" with Linux before 6.7. If that is no loss: {in_words}",
        )
    if mode and not all(url.startswith(_UNLIMITED) for url in found["used_by"]):
        return _note(
            detail,
            "Instances that are there lose the limit of their disk. Without"
            f" any: incus-testbed setup; else {in_words}",
        )
    if os.geteuid() != 0:
        return _note(detail, f"As root: {in_words}")
    return failed(detail, fix=commands)


def _enable(place: Path) -> tuple[str, ...]:
    return ("btrfs", "quota", "enable", "--simple", str(place))


def _can_be_simple(kernel: Kernel) -> bool:
    """Tell whether the kernel and the command for quotas know simple ones."""
    if not kernel.has_simple():
        return False
    try:
        done = programs.run(["btrfs", "quota", "enable", "--help"], timeout=10)
    except errors.TestbedError:
        return False
    return b"--simple" in done.stdout


def _note(detail: str, advice: str = "") -> Finding:
    return Finding(state=State.NOTE, detail=detail, advice=advice)


def _unknown(detail: str) -> Finding:
    return Finding(state=State.UNKNOWN, detail=detail)


def _unescaped(path: str) -> str:
    """Return a path of mountinfo as it is: blanks have three octal digits."""
    return re.sub(r"\\([0-7]{3})", lambda each: chr(int(each[1], 8)), path)
