# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure, print tables, and write JSON and a picture if asked to.

python3 -m tests.bench [--suite SUITE] [--rounds N] [--json FILE] [--plot FILE]
                       [GROUP...]
"""

import argparse
import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.bench import (
    chart,
    crowds,
    disks,
    files,
    imports,
    instances,
    parallel,
    process,
    ready,
    servers,
)
from tests.bench.sample import Sample, rows, table
from tests.support import daemon, images, kernel_limits
from tests.support.sandbox import Sandbox, sandbox


@dataclass(frozen=True, kw_only=True)
class _Setting:
    """What groups measure with: ``system`` has a Debian of that suite."""

    mine: Sandbox
    system: Path
    suite: str
    folder: Path
    rounds: int


GROUPS: dict[str, Callable[[_Setting], Iterator[Sample]]] = {
    "imports": lambda its: imports.measured(its.system, its.folder, its.rounds),
    "ready": lambda its: ready.measured(its.system, its.folder, its.rounds),
    "disks": lambda its: disks.measured(its.folder, its.rounds),
    "instances": lambda its: instances.measured(
        its.mine, its.system, its.folder, its.rounds
    ),
    "files": lambda its: files.measured(
        its.mine, its.system, its.folder, its.rounds
    ),
    "servers": lambda its: servers.measured(
        its.system, its.suite, its.folder, its.rounds
    ),
    "parallel": lambda its: parallel.measured(its.system, its.rounds),
    "crowds": lambda its: crowds.measured(its.mine, its.system, its.rounds),
}


def main() -> None:
    """Run the command line."""
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, daemon.on_sigterm)
    system = images.build(arguments.suite)
    process.add_checkout()
    samples = []
    with (
        kernel_limits.for_many(),
        sandbox(f"{os.getpid()}") as mine,
        tempfile.TemporaryDirectory(dir="/var/tmp") as name,
    ):
        os.environ["INCUS_PROJECT"] = mine.project
        for group in arguments.groups or GROUPS:
            folder = Path(name, group)
            folder.mkdir()
            setting = _Setting(
                mine=mine,
                system=system,
                suite=arguments.suite,
                folder=folder,
                rounds=arguments.rounds,
            )
            taken = list(GROUPS[group](setting))
            print("\n".join([*table(rows(taken)), ""]), flush=True)
            samples += taken
            # Written each time: what an hour has measured outlives a failure.
            if arguments.json:
                records = [asdict(sample) for sample in samples]
                arguments.json.write_text(json.dumps(records, indent=2) + "\n")
            if arguments.plot:
                chart.draw(rows(samples), arguments.plot)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m tests.bench")
    parser.add_argument(
        "--suite", default="bookworm", help="Debian of the testbeds"
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="TIMES")
    parser.add_argument("--json", type=Path, help="write all samples there")
    parser.add_argument("--plot", type=Path, help="draw a picture, in SVG")
    parser.add_argument(
        "groups",
        metavar="GROUP",
        nargs="*",
        help=f"of {', '.join(GROUPS)}; all, if none is given",
    )
    return parser


if __name__ == "__main__":
    main()
