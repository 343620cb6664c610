# SPDX-License-Identifier: GPL-3.0-or-later
"""Programs, their time and their memory."""

import contextlib
import ctypes
import os
import resource
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

_POLL = 0.01
#: Seconds for programs to end that nothing waits for.
_END_LIMIT = 30
#: Of prctl(2).
_PR_SET_CHILD_SUBREAPER = 36
_VIRT = Path(__file__).resolve().parents[2] / "virt"


def add_checkout() -> None:
    """Have programs find what is under test."""
    for variable in ("PATH", "PYTHONPATH"):
        before = os.environ.get(variable, "")
        os.environ[variable] = os.pathsep.join([str(_VIRT), before])


@dataclass(frozen=True, kw_only=True)
class Usage:
    """What a program took: seconds, most memory, most temporary disk space.

    Memory is its own process's: its children's is left out.
    """

    seconds: float
    peak_mib: float
    disk_mib: float


def run(argv: Sequence[str | Path]) -> Usage:
    """Run a program that has to work, with a temporary folder of its own."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        start = time.monotonic()
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "TMPDIR": folder},
        )
        peak = disk = 0.0
        try:
            while child.poll() is None:
                peak = max(peak, peak_mib(child.pid))
                disk = max(disk, _unnamed(child.pid) + _used(Path(folder)))
                time.sleep(_POLL)
        finally:
            child.kill()
            child.wait()
        seconds = time.monotonic() - start
    if child.returncode:
        raise SystemExit(f"{argv} failed with status {child.returncode}")
    return Usage(seconds=seconds, peak_mib=peak, disk_mib=disk)


def _used(folder: Path) -> float:
    """Return the MiB that files in a folder take."""
    return sum(_size(path) for path in folder.rglob("*"))


def _unnamed(process: int) -> float:
    """Return the MiB of a process's open files that have no name."""
    total = 0.0
    with contextlib.suppress(OSError):
        for path in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                if not path.stat().st_nlink:
                    total += _size(path, follow=True)
    return total


def _size(path: Path, *, follow: bool = False) -> float:
    try:
        return path.stat(follow_symlinks=follow).st_blocks * 512 / 2**20
    except OSError:  # it is gone again
        return 0


@contextlib.contextmanager
def adopting() -> Iterator[None]:
    """Be the parent of what programs started here leave running meanwhile."""
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        libc.prctl(_PR_SET_CHILD_SUBREAPER, 0)


def children_time() -> float:
    """Return the seconds of processors of all children, which have to end."""
    deadline = time.monotonic() + _END_LIMIT
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG) == (0, 0):
                time.sleep(_POLL)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def do(*argv: str | Path) -> None:
    """Run a program that has to work, and whose output is of no interest."""
    subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=True,
    )


def peak_mib(pid: int) -> float:
    """Return the most memory that a process has had, in MiB."""
    with contextlib.suppress(OSError):  # it has ended
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0
