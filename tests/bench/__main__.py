# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure, print tables, and write JSON and a picture if asked to.

python3 -m tests.bench [--rounds N] [--json FILE] [--plot FILE] [GROUP...]
"""

import argparse
import json
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from tests.bench import (
    chart,
    disks,
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

_Group = Callable[[Sandbox, Path, Path, int], Iterator[Sample]]

_GROUPS: dict[str, _Group] = {
    "imports": lambda _, system, folder, rounds: imports.measured(
        system, folder, rounds
    ),
    "ready": lambda _, system, folder, rounds: ready.measured(
        system, folder, rounds
    ),
    "disks": lambda _, _system, folder, rounds: disks.measured(folder, rounds),
    "instances": instances.measured,
    "servers": lambda _, system, folder, rounds: servers.measured(
        system, folder, rounds
    ),
    "parallel": lambda _, system, _folder, rounds: parallel.measured(
        system, rounds
    ),
}


def main() -> None:
    """Run the command line."""
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, daemon.on_sigterm)
    system = images.build("bookworm")
    process.add_checkout()
    samples = []
    with (
        kernel_limits.for_many(),
        sandbox(f"{os.getpid()}") as mine,
        tempfile.TemporaryDirectory(dir="/var/tmp") as name,
    ):
        os.environ["INCUS_PROJECT"] = mine.project
        for group in arguments.groups or _GROUPS:
            folder = Path(name, group)
            folder.mkdir()
            taken = list(_GROUPS[group](mine, system, folder, arguments.rounds))
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
    parser.add_argument("--rounds", type=int, default=5, metavar="TIMES")
    parser.add_argument("--json", type=Path, help="write all samples there")
    parser.add_argument("--plot", type=Path, help="draw a picture, in SVG")
    parser.add_argument(
        "groups",
        metavar="GROUP",
        nargs="*",
        help=f"of {', '.join(_GROUPS)}; all, if none is given",
    )
    return parser


if __name__ == "__main__":
    main()
