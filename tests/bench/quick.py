# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out in three minutes whether a step has become slower.

    python3 -m tests.bench.quick [--land]

Each step is measured in turns with the floor, what no program could do without.
The figure is the ratio of their medians, so that it can be compared with that
of another day.  The exit status is 1 if one is more than 15 % above that in
landed.json, also when it is measured once more.  --land writes them there.
"""

import argparse
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance
from tests.bench import imports, process, servers
from tests.bench.instances import IMAGE, Bare, import_system
from tests.bench.sample import OURS, Sample, shown, turns
from tests.support import daemon, images, kernel_limits
from tests.support.sandbox import sandbox

_LANDED = Path(__file__).with_name("landed.json")
_ROUNDS = 5
_COMMANDS = 20
_WORSE = 1.15
#: Tarballs to import, by their number in imports.CASES.
_IMPORTS = (0, 2, 3, 4)
_THERE = "/root/big"
_FILES = {"1 kB": 1000, "64 MB": 64_000_000}

_Act = Callable[[], float]


@dataclass(frozen=True)
class _Step:
    """What ours and the floor's way took each time, in seconds."""

    name: str
    ours: _Act
    floor: _Act
    taken: dict[str, list[float]] = field(
        default_factory=lambda: {"ours": [], "floor": []}
    )

    def measure(self) -> None:
        for _, who in turns(("ours", "floor"), _ROUNDS):
            self.taken[who].append(getattr(self, who)())

    def median(self, who: str) -> float:
        return statistics.median(self.taken[who])

    @property
    def ratio(self) -> float:
        return self.median("ours") / self.median("floor")


def _timed(act: Callable[[], object]) -> float:
    began = time.monotonic()
    act()
    return time.monotonic() - began


def _importing(system: Path, folder: Path) -> Iterator[_Step]:
    for number in _IMPORTS:
        case = imports.CASES[number]
        packed, name = imports.packed(case, system, folder / f"{number}")
        ready = folder / f"{number}.ready"
        yield _Step(
            name,
            partial(
                _seconds,
                partial(imports.taken, name, OURS, imports.ours(packed)),
            ),
            partial(_seconds, partial(imports.floor, name, packed, ready)),
        )


def _seconds(measure: Callable[[], Sample]) -> float:
    seconds = measure().seconds
    assert seconds is not None
    return seconds


def _life() -> None:
    bare = Bare()
    bare.start()
    bare.run(1)
    bare.remove()


def _using() -> Iterator[_Step]:
    """Yield steps in an instance, which runs meanwhile."""
    run = [sys.executable, "-m", "incus_testbed", "run", IMAGE, "--", "true"]
    yield _Step(
        "run IMAGE -- true",
        partial(_timed, partial(process.do, *run)),
        partial(_timed, _life),
    )
    server = servers.served(OURS)
    server.ask("open")
    (record,) = Incus().instances()
    bare = Bare(record.name)
    yield _Step(
        f"{_COMMANDS} commands of a test",
        partial(_timed, lambda: [server.execute("true") for _ in _times()]),
        partial(_timed, lambda: bare.run(_COMMANDS)),
    )
    files = Instance(Incus(), record.name).guest.files
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder, "file")
        for size, count in _FILES.items():
            here.write_bytes(os.urandom(count))
            push = partial(files.push, str(here), _THERE)
            yield _Step(
                f"a file of {size} into the guest",
                partial(_made, bare, push),
                partial(_made, bare, partial(bare.push_file, here)),
            )
            yield _Step(
                f"a file of {size} out of the guest",
                partial(_timed, partial(files.pull, _THERE, str(here))),
                partial(_timed, partial(bare.pull_file, here)),
            )
    server.ask("close")
    server.quit()


def _made(bare: Bare, push: Callable[[], object]) -> float:
    """Time a file's way to a place where there is none."""
    bare.remove_file()
    return _timed(push)


def _times() -> range:
    return range(_COMMANDS)


def _is_worse(step: _Step, landed: dict[str, float]) -> bool:
    return step.ratio > landed.get(step.name, step.ratio) * _WORSE


def _measured(
    steps: Iterator[_Step], landed: dict[str, float]
) -> Iterator[_Step]:
    for step in steps:
        step.measure()
        if _is_worse(step, landed):
            step.measure()
        before = landed.get(step.name)
        told = f", landed {before:.2f}x" if before else ""
        verdict = ": WORSE" if _is_worse(step, landed) else ""
        print(
            f"{step.name}: {shown(step.median('ours'))} s,"
            f" floor {shown(step.median('floor'))} s:"
            f" {step.ratio:.2f}x{told}{verdict}",
            flush=True,
        )
        yield step


def main() -> int:
    """Run the command line; give its exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.bench.quick")
    parser.add_argument("--land", action="store_true")
    land = parser.parse_args().land
    signal.signal(signal.SIGTERM, daemon.on_sigterm)
    landed = {} if land else json.loads(_LANDED.read_text())
    system = images.build("bookworm")
    process.add_checkout()
    with (
        kernel_limits.for_many(),
        sandbox(f"{os.getpid()}") as mine,
        tempfile.TemporaryDirectory(dir="/var/tmp") as folder,
    ):
        os.environ["INCUS_PROJECT"] = mine.project
        steps = list(_measured(_importing(system, Path(folder)), landed))
        import_system(system)
        steps += _measured(_using(), landed)
    if land:
        figures = {step.name: round(step.ratio, 2) for step in steps}
        _LANDED.write_text(json.dumps(figures, indent=2) + "\n")
    return 1 if any(_is_worse(step, landed) for step in steps) else 0


if __name__ == "__main__":
    sys.exit(main())
