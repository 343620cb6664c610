# SPDX-License-Identifier: GPL-3.0-or-later
"""One import, but for Incus, in a process that tells what it took.

    python3 -m tests.support.measured FILE

prints JSON: the error's class and text (empty without one), processor time in
seconds, MiB of memory at most in one process, and bytes written.
"""

import json
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from incus_testbed import errors
from incus_testbed.customise import customisation
from incus_testbed.image.stream import scratch
from incus_testbed.limits.budget import Budget
from tests.support.conversion import convert

_ROOT = Path(__file__).resolve().parents[2]

#: Seconds after which a child is killed, on a machine however busy.
_LIMIT = 120


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of an import, and what it took."""

    error: str
    text: str
    seconds: float
    wall: float
    memory: float
    written: int


def run(file: Path, **environment: str) -> Outcome:
    """Import a file in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.measured", file],
        cwd=_ROOT,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            **environment,
        },
        stdout=subprocess.PIPE,
        timeout=_LIMIT,
        check=True,
    )
    return Outcome(**json.loads(done.stdout))


def _main(path: str) -> None:
    begun = time.monotonic()
    error, text = "", ""
    with Path(path).open("rb") as source, scratch.file() as rootfs:
        try:
            convert(
                source,
                rootfs,
                additions=customisation.entries,
                date=0,
                budget=Budget.from_environment(),
            )
        except errors.TestbedError as refusal:
            error, text = type(refusal).__name__, str(refusal)
        except Exception as problem:  # noqa: BLE001 - that is what is looked for
            error, text = f"uncaught {type(problem).__name__}", str(problem)
        written = os.fstat(rootfs.fileno()).st_blocks * 512
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    print(
        json.dumps(
            {
                "error": error,
                "text": text,
                "seconds": own.ru_utime
                + own.ru_stime
                + children.ru_utime
                + children.ru_stime,
                "wall": time.monotonic() - begun,
                "memory": max(_peak(), children.ru_maxrss) / 1024,
                "written": written,
            }
        )
    )


def _peak() -> int:
    """Return KiB; getrusage() would tell of the process that started this."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    raise LookupError("VmHWM")


if __name__ == "__main__":
    _main(sys.argv[1])
