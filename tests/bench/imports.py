# SPDX-License-Identifier: GPL-3.0-or-later
"""From an artifact's file to an image.

The floor is what no program could do without: the file is unpacked to
nowhere with all cores, and Incus imports an image that is ready.
"""

import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench import debusine, process
from tests.bench.sample import DEBUSINE, FLOOR, OURS, Sample
from tests.support import tiny_system

_ALIAS = f"artifact/{debusine.ARTIFACT}"
_MB = 1_000_000
_UNPACK = {".xz": "xz -T0 -dc", ".zst": "zstd -dc"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """A tarball to import: what ``make`` makes of a system, and its packing.

    Debusine's executor takes minutes for it, so that not all are ``theirs``.
    """

    make: Callable[[Path, Path], None]
    packer: Sequence[str]
    suffix: str
    note: str = ""
    theirs: bool = False


def measured(system: Path, folder: Path, rounds: int) -> Iterator[Sample]:
    """Import each tarball so many times, and Debusine's way once."""
    for number, case in enumerate(CASES):
        file, step = packed(case, system, folder / f"{number}")
        for turn in range(rounds):
            yield taken(step, OURS, ours(file))
            yield floor(step, file, folder / f"{number}.ready")
            if case.theirs and turn == rounds // 2:
                yield taken(step, DEBUSINE, debusine.importing(file, "tarball"))
        file.unlink()


def packed(case: Case, system: Path, place: Path) -> tuple[Path, str]:
    """Make a case's tarball; return it, and what its import is called."""
    plain = place.with_suffix(".plain")
    case.make(system, plain)
    size = plain.stat().st_size / _MB
    file = place.with_suffix(case.suffix)
    with plain.open("rb") as source, file.open("wb") as target:
        subprocess.run(case.packer, stdin=source, stdout=target, check=True)
    plain.unlink()
    return file, f"import {size:.0f} MB, {case.suffix}{case.note}"


def _small(system: Path, target: Path) -> None:
    del system
    target.write_bytes(tiny_system.tarball(size=10 * _MB))


def _middle(system: Path, target: Path) -> None:
    unpack = "zstd -dc" if system.suffix == ".zst" else "cat"
    process.do("sh", "-c", f'{unpack} "$0" >"$1"', system, target)


def _large(system: Path, target: Path) -> None:
    """Add files of this machine, up to a gigabyte."""
    _middle(system, target)
    with tarfile.open(target, "a") as tar:
        for path in sorted(Path("/usr").rglob("*")):
            if tar.offset > 1000 * _MB:
                return
            if path.is_file() and not path.is_symlink():
                tar.add(path, f"./opt{path}")


CASES = (
    Case(make=_small, packer=["xz", "-c"], suffix=".tar.xz", theirs=True),
    Case(
        make=_middle,
        packer=["xz", "-T1", "-c"],
        suffix=".tar.xz",
        note=" in one block",
        theirs=True,
    ),
    Case(make=_middle, packer=["xz", "-T0", "-c"], suffix=".tar.xz"),
    Case(make=_middle, packer=["zstd", "-T0", "-c"], suffix=".tar.zst"),
    Case(make=_middle, packer=["cat"], suffix=".tar"),
    Case(
        make=_large,
        packer=["xz", "-T0", "-1", "-c"],
        suffix=".tar.xz",
        theirs=True,
    ),
)


#: Those that differ in their form only.
OF_ONE_SYSTEM = CASES[1:5]


def ours(file: Path, alias: str = _ALIAS) -> list[str | Path]:
    """Return the command that imports as a user would."""
    return [
        *(sys.executable, "-m", "incus_testbed", "import", file),
        *("--alias", alias),
    ]


def unpacking(file: Path) -> list[str | Path]:
    """Return the command that unpacks a file to nowhere, with all cores."""
    program = _UNPACK.get(file.suffix, "cat")
    return ["sh", "-c", f'{program} "$0" >/dev/null', file]


def taken(step: str, contender: str, argv: Sequence[str | Path]) -> Sample:
    """Run an import in a process of its own, and undo it."""
    usage = process.run(argv)
    process.do("incus", "image", "delete", _ALIAS)
    return Sample(step=step, contender=contender, **asdict(usage))


def floor(step: str, file: Path, ready: Path) -> Sample:
    """Unpack, and have Incus import an image that it has exported."""
    rootfs = ready.with_name(f"{ready.name}.root")
    if not rootfs.exists():
        process.do(*ours(file))
        process.do("incus", "image", "export", _ALIAS, ready)
        process.do("incus", "image", "delete", _ALIAS)
    unpacked = process.run(unpacking(file))
    importing = process.run(
        ["incus", "image", "import", ready, rootfs, "--alias", _ALIAS]
    )
    process.do("incus", "image", "delete", _ALIAS)
    return Sample(
        step=step,
        contender=FLOOR,
        seconds=unpacked.seconds + importing.seconds,
    )
