# SPDX-License-Identifier: GPL-3.0-or-later
"""From an artifact's file to the first instance that is ready.

All instances are launched by the bare incus commands, so that only the image's
form differs.
"""

import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from tests.bench import imports, process
from tests.bench.instances import IMAGE, Bare
from tests.bench.sample import FLOOR, OURS, Sample, timed, turns

_UNCHANGED = "handed on as it is"


def measured(system: Path, folder: Path, rounds: int) -> Iterator[Sample]:
    """Measure each form of a system's tarball so many times, in turns."""
    metadata = folder / "ready"
    rootfs = folder / "ready.root"
    process.do(*imports.ours(system, IMAGE))
    process.do("incus", "image", "export", IMAGE, metadata)
    process.do("incus", "image", "delete", IMAGE)
    for number, case in enumerate(imports.OF_ONE_SYSTEM):
        file, name = imports.packed(case, system, folder / f"{number}")
        step = name.replace("import", "file to ready,")
        ways = {
            OURS: partial(process.do, *imports.ours(file, IMAGE)),
            FLOOR: partial(_floor, file, metadata, rootfs),
            _UNCHANGED: partial(_hand_on, file, metadata),
        }
        for _, way in turns(list(ways), rounds):
            bare = Bare()
            yield timed(step, way, partial(_begin, ways[way], bare))
            bare.remove()
            process.do("incus", "image", "delete", IMAGE)
        file.unlink()


def _begin(bring: Callable[[], None], bare: Bare) -> None:
    bring()
    bare.start()


def _floor(file: Path, metadata: Path, rootfs: Path) -> None:
    process.do(*imports.unpacking(file))
    process.do(*_importing(metadata, rootfs))


def _hand_on(file: Path, metadata: Path) -> None:
    """Import a file without a change, and read it beside that.

    An import has to know what is in it.
    """
    with subprocess.Popen(imports.unpacking(file)):
        process.do(*_importing(metadata, file))


def _importing(metadata: Path, rootfs: Path) -> list[str | Path]:
    return ["incus", "image", "import", metadata, rootfs, "--alias", IMAGE]
