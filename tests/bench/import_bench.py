# SPDX-License-Identifier: GPL-3.0-or-later
"""How long an import takes, beside Debusine's own executor and the floor.

The same tarball is imported into the same Incus by incus-testbed, by the code
of python3-debusine, and in the least that any program would have to do: xz
unpacks it to nowhere, incus imports an image that is ready.  Peak memory is
that of the Python process; for the floor there is none.
"""

import argparse
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

from tests.sandbox import sandbox

ROOT = Path(__file__).parents[2]
OURS = "incus-testbed"
DEBUSINE = "Debusine's executor"
FLOOR = "floor"
#: Unlikely to be an artifact of anybody's.
ARTIFACT = 999_000_001
#: How the tarball is packed: what xz does by default, and in parallel.
_SELF = (sys.executable, "-m", "tests.bench.import_bench")
PACKINGS = {"one block": ["xz", "-T1"], "blocks": ["xz", "-T0"]}


@dataclass(frozen=True, kw_only=True)
class Run:
    """One import by one program."""

    program: str
    packing: str
    seconds: float
    peak_mib: float | None


def main() -> None:
    """Measure, print a table, and write JSON if asked to."""
    arguments = _parser().parse_args()
    if arguments.debusine:
        import_with_debusine(arguments.tarball)
        return
    with (
        sandbox("bench") as mine,
        tempfile.TemporaryDirectory(dir=arguments.scratch) as name,
    ):
        os.environ["INCUS_PROJECT"] = mine.project
        runs = list(
            _runs(
                arguments.tarball, Path(name), arguments.repeat, arguments.skip
            )
        )
    if arguments.json:
        records = [asdict(run) for run in runs]
        arguments.json.write_text(json.dumps(records, indent=2) + "\n")
    print("\n".join(table(runs)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument(
        "tarball", type=Path, help="a system tarball, plain or .tar.zst"
    )
    parser.add_argument("--json", type=Path, help="write all runs to this file")
    parser.add_argument("--repeat", type=int, default=3, metavar="TIMES")
    parser.add_argument(
        "--scratch", default="/var/tmp", help="folder for temporary files"
    )
    parser.add_argument(
        "--skip", action="store_true", help=f"leave out {DEBUSINE}"
    )
    parser.add_argument(
        "--debusine", action="store_true", help=argparse.SUPPRESS
    )
    return parser


def _runs(
    tarball: Path, scratch: Path, repeat: int, skip: bool
) -> Iterator[Run]:
    for packing, packer in PACKINGS.items():
        packed = scratch / f"{packing}.tar.xz"
        _pack(tarball, packer, packed)
        for turn in range(repeat):
            yield _measured(OURS, packing, _ours(packed))
            yield _floor(packing, packed, scratch)
            if turn == repeat // 2 and not skip:  # once: it takes minutes
                argv = [*_SELF, "--debusine", str(packed)]
                yield _measured(DEBUSINE, packing, argv)


def _pack(tarball: Path, packer: Sequence[str], packed: Path) -> None:
    unpacker = "zstd -dc" if tarball.suffix == ".zst" else "cat"
    with tarball.open("rb") as source, packed.open("wb") as target:
        subprocess.run(
            ["sh", "-c", f"{unpacker} | {' '.join(packer)} -c"],
            stdin=source,
            stdout=target,
            check=True,
        )


def _ours(packed: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "incus_testbed", "import", str(packed)),
        *("--alias", f"artifact/{ARTIFACT}"),
    ]


def _measured(program: str, packing: str, argv: Sequence[str]) -> Run:
    """Run an import in a process of its own, and undo it."""
    seconds, peak = _run(argv)
    _delete_image()
    return Run(program=program, packing=packing, seconds=seconds, peak_mib=peak)


def _floor(packing: str, packed: Path, scratch: Path) -> Run:
    """Time xz alone, and then incus alone with an image it has exported."""
    exported = scratch / "ready"
    if not exported.with_suffix(".root").exists():
        _run(_ours(packed))
        _incus("image", "export", f"artifact/{ARTIFACT}", str(exported))
        _delete_image()
    unpacking, _ = _run(["sh", "-c", 'xz -T0 -dc "$0" >/dev/null', str(packed)])
    importing, _ = _run(
        [
            *("incus", "image", "import", str(exported)),
            *(f"{exported}.root", "--alias", f"artifact/{ARTIFACT}"),
        ]
    )
    _delete_image()
    return Run(
        program=FLOOR,
        packing=packing,
        seconds=unpacking + importing,
        peak_mib=None,
    )


def _run(argv: Sequence[str]) -> tuple[float, float]:
    """Run a program; return its seconds, and its own peak memory in MiB."""
    path = os.pathsep.join(
        [str(ROOT / "virt"), os.environ.get("PYTHONPATH", "")]
    )
    start = time.monotonic()
    child = subprocess.Popen(
        argv,
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    peak = 0
    while child.poll() is None:
        peak = max(peak, _high_water(child.pid))
        time.sleep(0.01)
    seconds = time.monotonic() - start
    if child.returncode:
        raise SystemExit(f"{argv} failed with status {child.returncode}")
    return seconds, peak / 1024


def _high_water(pid: int) -> int:
    """Return a process's peak resident memory in KiB, without its children's.

    wait4() would tell of xz, too, where that was larger.
    """
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1])
    return 0  # it is about to end


def _delete_image() -> None:
    _incus("image", "delete", f"artifact/{ARTIFACT}")


def _incus(*arguments: str) -> None:
    subprocess.run(
        ["incus", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=True,
    )


def import_with_debusine(tarball: Path) -> None:
    """Have Debusine's own image cache import a file it has downloaded."""
    # ruff: noqa: PLC0415 - without this process, Debusine need not be there
    from debusine.client.models import ArtifactResponse
    from debusine.tasks.executors.base import ExecutorImageCategory
    from debusine.tasks.executors.incus import IncusLXCImageCache

    artifact = ArtifactResponse(
        id=ARTIFACT,
        workspace="System",
        category="debian:system-tarball",
        created_at=datetime.now(UTC),
        data={
            "filename": tarball.name,
            "architecture": _dpkg_architecture(),
            "vendor": "debian",
            "codename": "unknown",
        },
        download_tar_gz_url="https://debusine.invalid/",
        files_to_upload=[],
    )
    with tempfile.TemporaryDirectory(dir=tarball.parent) as name:
        cache = IncusLXCImageCache(mock.Mock(), ExecutorImageCategory.TARBALL)
        cache.image_cache_path = Path(name)
        downloaded = cache.cache_artifact_image_path(ARTIFACT, tarball.name)
        downloaded.parent.mkdir(parents=True)
        downloaded.hardlink_to(tarball)
        cache.process_downloaded_image(artifact)


def _dpkg_architecture() -> str:
    return subprocess.run(
        ["dpkg", "--print-architecture"],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout.strip()


def table(runs: Iterable[Run]) -> Iterator[str]:
    """Yield the lines of a table: the best run of each, and ratios to ours."""
    best: dict[tuple[str, str], Run] = {}
    for run in runs:
        key = run.packing, run.program
        if key not in best or run.seconds < best[key].seconds:
            best[key] = run
    yield "| .tar.xz in | program | seconds | of ours | peak MiB |"
    yield "|---|---|---:|---:|---:|"
    for (packing, program), run in best.items():
        ratio = run.seconds / best[packing, OURS].seconds
        peak = "" if run.peak_mib is None else f"{run.peak_mib:.0f}"
        yield (
            f"| {packing} | {program} | {run.seconds:.1f}"
            f" | {ratio:.2f} | {peak} |"
        )


if __name__ == "__main__":
    main()
