# SPDX-License-Identifier: GPL-3.0-or-later
"""From a disk's file to an image of virtual machines.

A disk of 8 GiB has 2 GiB of this machine's programs on it.  It comes in the
.tar.xz that Debusine's task makes, as qcow2, and as it is.
"""

import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.bench import debusine
from tests.bench.imports import floor, ours, taken
from tests.bench.sample import DEBUSINE, OURS, Sample
from tests.support import small_disks

_GIB = 1 << 30
_SIZE, _DATA = 8 * _GIB, 2 * _GIB
_BLOCK = 4096


def measured(folder: Path, rounds: int) -> Iterator[Sample]:
    """Import each so many times, and Debusine's way once: it takes minutes."""
    disk = folder / "system.img"
    _make(disk)
    packed = folder / "image.tar.xz"
    _shell('tar -cf - -C "$0" system.img | xz -1 -T0 >"$1"', folder, packed)
    qcow2 = folder / "image.qcow2"
    _shell('qemu-img convert -f raw -O qcow2 "$0" "$1"', disk, qcow2)
    files = {"raw in .tar.xz": packed, "qcow2": qcow2, "raw": disk}
    for turn in range(rounds):
        for form, file in files.items():
            step = f"import {_DATA / _GIB:.0f} GiB on a disk, {form}"
            yield taken(step, OURS, ours(file))
            yield floor(step, file, folder / "ready")
            if file is packed and turn == rounds // 2:
                argv = debusine.importing(file, "image")
                yield taken(step, DEBUSINE, argv)


def _make(disk: Path) -> None:
    """Make a small disk, and fill a part of it."""
    small_disks.make(disk, small_disks.system())
    _shell(
        'truncate -s "$1" "$0"; sfdisk --quiet --relocate gpt-bak-std "$0"',
        disk,
        str(_SIZE),
    )
    with disk.open("r+b") as file:
        file.seek(_SIZE // 2)
        for program in itertools.cycle(_programs()):
            file.write(program.read_bytes())
            # Files begin where blocks do.
            file.seek(-file.tell() % _BLOCK, os.SEEK_CUR)
            if file.tell() >= _SIZE // 2 + _DATA:
                return


def _programs() -> list[Path]:
    found = sorted(Path("/usr").rglob("*"))
    return [path for path in found if path.is_file() and not path.is_symlink()]


def _shell(command: str, *words: str | Path) -> None:
    subprocess.run(
        ["bash", "-o", "pipefail", "-c", command, *words], check=True
    )
