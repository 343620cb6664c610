# SPDX-License-Identifier: GPL-3.0-or-later
"""How long the import of a disk takes, beside Debusine's own executor.

A disk of a file system that is part full of what does not pack well, in the
.tar.xz that Debusine's task makes, is imported into the same Incus by
incus-testbed and by the code of python3-debusine.  Peak memory is that of the
Python process, peak disk what temporary files take at once, all but the
result's own copy in Incus' store.
"""

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock

from tests.disks import MIB
from tests.sandbox import sandbox
from tests.unit import small_disks

ROOT = Path(__file__).parents[2]
OURS = "incus-testbed"
DEBUSINE = "Debusine's executor"
#: Unlikely to be an artifact of anybody's.
ARTIFACT = 999_000_002
_SELF = (sys.executable, "-m", "tests.bench.disk_bench")
_POLL = 0.02


@dataclass(frozen=True, kw_only=True)
class Run:
    """One import by one program."""

    program: str
    packing: str
    seconds: float
    peak_mib: float
    disk_mib: float


def main() -> None:
    """Measure, print a table, and write JSON if asked to."""
    arguments = _parser().parse_args()
    if arguments.debusine:
        import_with_debusine(arguments.debusine)
        return
    with (
        sandbox("diskbench") as mine,
        tempfile.TemporaryDirectory(dir=arguments.scratch) as name,
    ):
        os.environ["INCUS_PROJECT"] = mine.project
        runs = list(_runs(arguments, Path(name)))
    if arguments.json:
        records = [asdict(run) for run in runs]
        arguments.json.write_text(json.dumps(records, indent=2) + "\n")
    print(f"{arguments.data} MiB of data on a disk of {arguments.size} MiB")
    print("\n".join(table(runs)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("--size", type=int, default=8192, metavar="MIB")
    parser.add_argument("--data", type=int, default=2048, metavar="MIB")
    parser.add_argument("--json", type=Path, help="write all runs to this file")
    parser.add_argument(
        "--scratch", default="/var/tmp", help="folder for temporary files"
    )
    parser.add_argument(
        "--skip", action="store_true", help=f"leave out {DEBUSINE}"
    )
    parser.add_argument("--debusine", type=Path, help=argparse.SUPPRESS)
    return parser


def _runs(arguments: argparse.Namespace, scratch: Path) -> Iterator[Run]:
    disk = scratch / "system.img"
    _make(disk, arguments.size * MIB, arguments.data * MIB)
    packed = scratch / "image.tar.xz"
    _shell('tar -cf - -C "$0" system.img | xz -1 -T0 >"$1"', scratch, packed)
    qcow2 = scratch / "image.qcow2"
    _shell('qemu-img convert -f raw -O qcow2 "$0" "$1"', disk, qcow2)
    temporary = scratch / "temporary"
    temporary.mkdir()
    for packing, file in (
        ("raw in .tar.xz", packed),
        ("qcow2", qcow2),
        ("raw file", disk),
    ):
        argv = [
            *(sys.executable, "-m", "incus_testbed", "import", str(file)),
            *("--alias", f"artifact/{ARTIFACT}"),
        ]
        yield _measured(OURS, packing, argv, temporary)
        if file is packed and not arguments.skip:
            argv = [*_SELF, "--debusine", str(file)]
            yield _measured(DEBUSINE, packing, argv, temporary)


def _make(disk: Path, size: int, data: int) -> None:
    """Make a small disk, and fill some of it as programs would."""
    small_disks.make(disk, small_disks.system())
    _shell(
        'rm "$0.qcow2" 2>/dev/null; truncate -s "$1" "$0";'
        ' sfdisk --quiet --relocate gpt-bak-std "$0"',
        disk,
        str(size),
    )
    # a quarter is noise, the rest packs, as in executables
    noise = os.urandom(1 << 16)
    block = noise + (b"what repeats itself, " * 10_000)[: 3 << 16]
    with disk.open("r+b") as file:
        file.seek(size // 2)
        for number in range(data // len(block)):
            file.write(number.to_bytes(8, "big") + os.urandom(1 << 16))
            file.write(block[(1 << 16) + 8 :])


def _shell(command: str, *words: str | Path) -> None:
    subprocess.run(
        ["bash", "-o", "pipefail", "-c", command, *words], check=True
    )


def _measured(
    program: str, packing: str, argv: Sequence[str], temporary: Path
) -> Run:
    """Run an import in a process of its own, and undo it."""
    path = os.pathsep.join(
        [str(ROOT / "virt"), str(ROOT), os.environ.get("PYTHONPATH", "")]
    )
    before = _used(temporary)
    start = time.monotonic()
    child = subprocess.Popen(
        argv,
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(temporary)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    peak = disk = 0
    while child.poll() is None:
        with contextlib.suppress(OSError):
            peak = max(peak, _high_water(child.pid))
        disk = max(disk, _held(child.pid) + _used(temporary) - before)
        time.sleep(_POLL)
    seconds = time.monotonic() - start
    if child.returncode:
        raise SystemExit(f"{argv} failed with status {child.returncode}")
    _incus("image", "delete", f"artifact/{ARTIFACT}")
    return Run(
        program=program,
        packing=packing,
        seconds=seconds,
        peak_mib=peak / 1024,
        disk_mib=disk / MIB,
    )


def _used(folder: Path) -> int:
    """Return the bytes that files in a folder take."""
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.lstat().st_blocks * 512
    return total


def _held(process: int) -> int:
    """Return the bytes of a process's open files that have no name."""
    total = 0
    with contextlib.suppress(OSError):
        for path in Path(f"/proc/{process}/fd").iterdir():
            with contextlib.suppress(OSError):
                status = path.stat()
                if not status.st_nlink:
                    total += status.st_blocks * 512
    return total


def _high_water(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0  # it is about to end


def _incus(*arguments: str) -> None:
    subprocess.run(
        ["incus", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=True,
    )


def import_with_debusine(packed: Path) -> None:
    """Have Debusine's own image cache import a file it has downloaded."""
    # ruff: noqa: PLC0415 - without this process, Debusine need not be there
    from debusine.client.models import ArtifactResponse
    from debusine.tasks.executors.base import ExecutorImageCategory
    from debusine.tasks.executors.incus import IncusVMImageCache

    artifact = ArtifactResponse(
        id=ARTIFACT,
        workspace="System",
        category="debian:system-image",
        created_at=datetime.now(UTC),
        data={
            "filename": packed.name,
            "architecture": "amd64",
            "vendor": "debian",
            "codename": "unknown",
            "image_format": "raw",
        },
        download_tar_gz_url="https://debusine.invalid/",
        files_to_upload=[],
    )
    with tempfile.TemporaryDirectory() as name:
        cache = IncusVMImageCache(mock.Mock(), ExecutorImageCategory.IMAGE)
        cache.image_cache_path = Path(name)
        downloaded = cache.cache_artifact_image_path(ARTIFACT, packed.name)
        downloaded.parent.mkdir(parents=True)
        downloaded.symlink_to(packed)
        cache.process_downloaded_image(artifact)


def table(runs: Iterable[Run]) -> Iterator[str]:
    """Yield the lines of a table, with ratios to ours."""
    ours: dict[str, float] = {}
    yield "| disk | program | seconds | of ours | peak MiB | disk MiB |"
    yield "|---|---|---:|---:|---:|---:|"
    for run in runs:
        first = ours.setdefault(run.packing, run.seconds)
        yield (
            f"| {run.packing} | {run.program} | {run.seconds:.1f}"
            f" | {run.seconds / first:.1f} | {run.peak_mib:.0f}"
            f" | {run.disk_mib:.0f} |"
        )


if __name__ == "__main__":
    main()
