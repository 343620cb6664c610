# SPDX-License-Identifier: GPL-3.0-or-later
"""What takes longer where a project has many images and instances.

    python3 -m tests.bench.scale [--rounds N] [--beside CHECKOUT]

measures the same commands, in turns, in three projects: an empty one, one with
1,000 images and 2,000 stopped instances of somebody else, and one where the
instances have the keys of a living process.  It prints a table: seconds in the
empty project, and how many times that in the others; and the same of processor
time.  The floor is what Incus itself takes.  CHECKOUT has another version, to
compare with.
"""

import argparse
import contextlib
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from incus_testbed.image.store import content_alias
from incus_testbed.incus.client import Incus
from incus_testbed.instance import naming
from incus_testbed.instance.creation import CREATED_KEY, OWNER_KEY, PURPOSE_KEY
from incus_testbed.ownership.owner import Owner
from tests.bench.cost import Cost, processor_time
from tests.bench.crowd import Crowd
from tests.bench.sample import turns
from tests.support import daemon, images, kernel_limits, tiny_system
from tests.support.sandbox import Sandbox, sandbox

_HERE = Path(__file__).resolve().parents[2]
_FLOOR = "floor"
_SYSTEM = "bench/system"
_PROJECTS = ("empty", "of others", "ours")
#: What a worker of Debusine does about Incus in a request without a testbed.
_REQUEST = """
import sys
from debusine_incus import worker
from incus_testbed.cleanup import eviction
from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus
from incus_testbed.ownership import lease

class Task:
    def execute_logging_exceptions(self):
        incus, (alias, sha256) = Incus(), sys.argv[1:]
        assert not Store(incus).add(None, alias, sha256=sha256)
        lease.take(incus, alias)
        eviction.evict(incus, keep=10, max_bytes=10 << 30)

worker.clean_up_after(Task)
Task().execute_logging_exceptions()
"""


#: What a step took, by who took it and by the project.
_Taken: TypeAlias = dict[str, dict[str, list[Cost]]]


@dataclass(frozen=True, kw_only=True)
class _Step:
    """Something to measure: what a checkout does, and the least of Incus."""

    name: str
    ours: Callable[[Path], object]
    floor: Callable[[], object] | None = None


def main() -> None:
    """Run the command line."""
    arguments = _parser().parse_args()
    signal.signal(signal.SIGTERM, daemon.on_sigterm)
    system = images.build("bookworm")
    with (
        kernel_limits.for_many(),
        tempfile.TemporaryDirectory(dir="/var/tmp") as name,
        _projects(arguments) as projects,
    ):
        small = Path(name, "small.tar")
        small.write_bytes(tiny_system.tarball())
        with small.open("rb") as source:
            alias = content_alias(source)
        checkouts = [_HERE, *filter(None, [arguments.beside])]
        for project in projects.values():
            os.environ["INCUS_PROJECT"] = project
            _run(_HERE, "import", system, "--alias", _SYSTEM)
            _run(_HERE, "import", small, "--alias", alias)
        print("\n".join(_heading()), flush=True)
        for step in _steps(small, alias):
            taken = _measured(step, checkouts, projects, arguments.rounds)
            print("\n".join(_rows(step.name, taken)), flush=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m tests.bench.scale")
    parser.add_argument("--rounds", type=int, default=5, metavar="TIMES")
    parser.add_argument("--images", type=int, default=1000, metavar="COUNT")
    parser.add_argument("--instances", type=int, default=2000, metavar="COUNT")
    parser.add_argument("--beside", type=Path, metavar="CHECKOUT")
    return parser


@contextlib.contextmanager
def _projects(arguments: argparse.Namespace) -> Iterator[dict[str, str]]:
    """Make the three projects, each with a network and a pool of its own."""
    keys = {
        OWNER_KEY: str(Owner.current()),
        CREATED_KEY: "2026-01-01T00:00:00+00:00",
        PURPOSE_KEY: "bench",
    }
    with contextlib.ExitStack() as stack:
        made = {}
        for number, name in enumerate(_PROJECTS):
            mine: Sandbox = stack.enter_context(
                sandbox(f"{os.getpid()}{'abc'[number]}")
            )
            made[name] = mine.project
            if name != "empty":
                start = time.monotonic()
                crowd = Crowd(
                    project=mine.project,
                    images=arguments.images,
                    instances=_names(name, arguments.instances),
                    keys=keys if name == "ours" else {},
                )
                stack.enter_context(crowd.made())
                seconds = time.monotonic() - start
                print(f"{name}: made in {seconds:.0f} s", file=sys.stderr)
        yield made


def _names(project: str, count: int) -> list[str]:
    if project != "ours":
        return [f"other-{number}" for number in range(count)]
    found: set[str] = set()
    while len(found) < count:
        found.add(naming.make_up())
    return sorted(found)


def _steps(small: Path, alias: str) -> list[_Step]:
    return [
        _Step(
            name="import of a file that is imported",
            ours=lambda there: _run(there, "import", small, "--alias", alias),
            floor=lambda: Incus().image(alias),
        ),
        _Step(
            name="run true",
            ours=lambda there: _run(there, "run", _SYSTEM, "--", "true"),
            floor=_bare,
        ),
        _Step(name="virt server: open, close", ours=_served),
        _Step(
            name="a worker's request",
            ours=partial(_request, small, alias),
        ),
        _Step(
            name="gc",
            ours=lambda there: _run(there, "gc"),
            floor=lambda: Incus().contents(),
        ),
        _Step(
            name="status",
            ours=lambda there: _run(there, "status"),
            floor=lambda: Incus().contents(),
        ),
        _Step(
            name="gc --thorough",
            ours=lambda there: _run(there, "gc", "--thorough"),
            floor=_lists,
        ),
        _Step(name="doctor", ours=_doctor),
    ]


def _environment(checkout: Path) -> dict[str, str]:
    path = os.pathsep.join(map(str, (checkout / "virt", checkout / "executor")))
    return {**os.environ, "PYTHONPATH": path}


def _do(
    checkout: Path,
    *argv: str | Path,
    said: bytes = b"",
    statuses: Sequence[int] = (0,),
) -> None:
    done = subprocess.run(
        argv,
        input=said,
        capture_output=True,
        env=_environment(checkout),
        check=False,
    )
    assert done.returncode in statuses, (argv, done)


def _run(checkout: Path, *words: str | Path) -> None:
    _do(checkout, sys.executable, "-m", "incus_testbed", *words)


def _doctor(checkout: Path) -> None:
    argv = (sys.executable, "-m", "incus_testbed", "doctor")
    _do(checkout, *argv, statuses=(0, 1))


def _served(checkout: Path) -> None:
    program = checkout / "virt" / "autopkgtest-virt-incus-testbed"
    _do(checkout, program, _SYSTEM, said=b"open\nclose\nquit\n")


def _request(small: Path, alias: str, checkout: Path) -> None:
    sha256 = subprocess.check_output(["sha256sum", small], text=True).split()[0]
    _do(checkout, sys.executable, "-c", _REQUEST, alias, sha256)


def _bare() -> None:
    _do(_HERE, "incus", "launch", _SYSTEM, "bare")
    _do(_HERE, "incus", "exec", "bare", "--", "true")
    _do(_HERE, "incus", "delete", "--force", "bare")


def _lists() -> None:
    incus = Incus()
    for what in ("images", "instances"):
        incus.get(what, recursion=1)


def _measured(
    step: _Step,
    checkouts: Sequence[Path],
    projects: Mapping[str, str],
    rounds: int,
) -> _Taken:
    """Take a step so many times in each project, in turns."""
    taken: _Taken = {}
    acts: dict[str, Callable[[], object]] = {
        str(checkout): partial(step.ours, checkout) for checkout in checkouts
    }
    if step.floor:
        acts[_FLOOR] = step.floor
    contenders = [(who, where) for where in projects for who in acts]
    for _, (who, where) in turns(contenders, rounds):
        os.environ["INCUS_PROJECT"] = projects[where]
        before = set(Incus().instance_names())
        start, used = time.monotonic(), processor_time()
        acts[who]()
        cost = Cost(
            seconds=time.monotonic() - start,
            processor=processor_time() - used,
        )
        taken.setdefault(who, {}).setdefault(where, []).append(cost)
        # A testbed's removal goes on for a moment.
        while set(Incus().instance_names()) - before:
            time.sleep(0.05)
    return taken


def _heading() -> Iterator[str]:
    yield f"| step | of | {' | '.join(_PROJECTS)} |"
    yield "|---|---|" + "---:|" * len(_PROJECTS)


def _rows(step: str, taken: _Taken) -> Iterator[str]:
    """Yield the lines of a step: medians of seconds, and of processors."""
    for who, costs in taken.items():
        name = "this checkout" if who == str(_HERE) else who
        for unit in ("seconds", "processor"):
            medians = [
                statistics.median(getattr(each, unit) for each in costs[where])
                for where in _PROJECTS
            ]
            empty, *others = medians
            cells = [f"{each:.2f} s ({each / empty:.2g}x)" for each in others]
            what = f"{name}, processors" if unit == "processor" else name
            line = " | ".join([step, what, f"{empty:.2f} s", *cells])
            yield f"| {line} |"


if __name__ == "__main__":
    main()
