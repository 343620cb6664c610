# SPDX-License-Identifier: GPL-3.0-or-later
"""Single files into an instance and out of it, on two kinds of pools.

The floor is the incus command.
"""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.bench.instances import (
    Contender,
    directory_project,
    import_system,
    in_project,
)
from tests.bench.sample import DEBUSINE, FLOOR, OURS, Sample, timed, turns
from tests.support.sandbox import Sandbox

_SIZES = {
    "1 kB": 1_000,
    "1 MB": 1_000_000,
    "10 MB": 10_000_000,
    "100 MB": 100_000_000,
    "1 GB": 1_000_000_000,
}


def measured(
    sandbox: Sandbox, tarball: Path, folder: Path, rounds: int
) -> Iterator[Sample]:
    """Carry files of all sizes so many times, in turns."""
    with directory_project(sandbox) as project:
        for kind, place in {"usual": sandbox.project, "dir": project}.items():
            with in_project(place):
                import_system(tarball)
                yield from _carried(place, kind, folder, rounds)


def _carried(
    project: str, kind: str, folder: Path, rounds: int
) -> Iterator[Sample]:
    lives = {
        name: Contender(name=name, project=project).life()
        for name in (OURS, FLOOR, DEBUSINE)
    }
    for life in lives.values():
        life.start()
    file, back = folder / "file", folder / "back"
    for size, length in _SIZES.items():
        file.write_bytes(os.urandom(length))
        for _, name in turns(list(lives), rounds):
            life = lives[name]
            os.sync()  # what others have written is not waited for
            yield timed(
                f"a file of {size} in, {kind} pool",
                name,
                partial(life.push_file, file),
            )
            os.sync()
            yield timed(
                f"a file of {size} out, {kind} pool",
                name,
                partial(life.pull_file, back),
            )
            back.unlink()
            life.remove_file()
    file.unlink()
    for life in lives.values():
        life.stop()
        life.remove()
