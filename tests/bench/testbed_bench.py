# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a testbed takes, beside autopkgtest's own virt server.

Both servers are spoken to over their protocol, in turns, with the same image
in the same Incus.  Where lxcfs is missing, autopkgtest 5.49 can't see that a
container has rebooted: that step is then tried once and given up.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.contract.virt_server.server import COMMAND, Server
from tests.sandbox import sandbox

ROOT = Path(__file__).parents[2]
OURS = "incus-testbed"
UPSTREAM = "incus"
PROGRAMS = {OURS: COMMAND, UPSTREAM: "autopkgtest-virt-incus"}
IMAGE = "bench/1"
PACKAGE = ROOT / "tests" / "packages" / "hello-testbed"
TREE_MB = 50
#: Seconds after which a reboot counts as one that is never noticed.
_REBOOT_LIMIT = 20


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one server took for one step; None where it can't do that."""

    name: str
    server: str
    seconds: float | None


def main() -> None:
    """Measure, print a table, and write JSON if asked to."""
    arguments = _parser().parse_args()
    virt = ROOT / "virt"
    os.environ["PATH"] = f"{virt}:{os.environ['PATH']}"
    os.environ["PYTHONPATH"] = f"{virt}:{os.environ.get('PYTHONPATH', '')}"
    with (
        sandbox("testbench") as mine,
        tempfile.TemporaryDirectory(dir="/var/tmp") as name,
    ):
        os.environ["INCUS_PROJECT"] = mine.project
        _import(arguments.tarball)
        steps = list(_steps(Path(name), arguments.rounds))
    if arguments.json:
        records = [asdict(step) for step in steps]
        arguments.json.write_text(json.dumps(records, indent=2) + "\n")
    print("\n".join(table(steps)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument("tarball", type=Path, help="a system tarball")
    parser.add_argument(
        "--json", type=Path, help="write all steps to this file"
    )
    parser.add_argument("--rounds", type=int, default=5, metavar="TIMES")
    return parser


def _import(tarball: Path) -> None:
    subprocess.run(
        [
            *(sys.executable, "-m", "incus_testbed", "import", tarball),
            *("--alias", IMAGE),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=True,
    )


def _steps(folder: Path, rounds: int) -> Iterator[Step]:
    tree = folder / "tree"
    _grow(tree)
    can_reboot = dict.fromkeys(PROGRAMS, True)
    for number in range(rounds):
        for server in PROGRAMS:
            back = folder / f"{server}-{number}"
            for step in _one_round(server, tree, back, can_reboot[server]):
                if step.seconds is None:
                    can_reboot[server] = False
                yield step


def _grow(tree: Path) -> None:
    """Make a tree as sources have it: many small files, some large ones."""
    for number in range(100):
        (tree / f"{number}").mkdir(parents=True)
        for name, size in (("small", 4_000), ("middle", 46_000)):
            for copy in range(5):
                file = tree / f"{number}" / f"{name}-{copy}"
                file.write_bytes(os.urandom(size))
    rest = TREE_MB * 1_000_000 - 100 * 5 * 50_000
    (tree / "large").write_bytes(os.urandom(rest))


def _one_round(
    name: str, tree: Path, back: Path, can_reboot: bool
) -> Iterator[Step]:
    def timed(step: str, act: Callable[[], object]) -> Step:
        start = time.monotonic()
        act()
        return Step(name=step, server=name, seconds=time.monotonic() - start)

    server = _served(name)
    (scratch,) = server.ask("open")
    server.ask("close")
    yield timed("open to ready", lambda: server.ask("open"))
    yield timed("one command", lambda: server.execute("true"))
    yield timed(
        f"copy {TREE_MB} MB down",
        lambda: server.ask("copydown", f"{tree}/", f"{scratch}/tree/"),
    )
    yield timed(
        f"copy {TREE_MB} MB up",
        lambda: server.ask("copyup", f"{scratch}/tree/", f"{back}/"),
    )
    yield timed("revert", lambda: server.ask("revert"))
    yield timed("close", lambda: server.ask("close"))
    server.quit()
    if can_reboot:
        yield _reboot(name)
    yield timed("whole demo package", lambda: _autopkgtest(name))


def _served(name: str) -> Server:
    return Server(IMAGE, program=PROGRAMS[name], stderr=subprocess.DEVNULL)


def _reboot(name: str) -> Step:
    """Time a reboot, in a testbed of its own: it may never be noticed."""
    server = _served(name)
    server.ask("open")
    server.send("reboot")
    start = time.monotonic()
    try:
        server.reply(_REBOOT_LIMIT)
    except AssertionError:
        server.process.terminate()
        server.end()
        return Step(name="reboot", server=name, seconds=None)
    seconds = time.monotonic() - start
    server.ask("close")
    server.quit()
    return Step(name="reboot", server=name, seconds=seconds)


def _autopkgtest(name: str) -> None:
    """Run the demo package but for its reboot, which not both can do."""
    with tempfile.TemporaryDirectory() as output:
        done = subprocess.run(
            [
                *("autopkgtest", "--apt-upgrade", "--no-built-binaries"),
                *(f"--output-dir={output}/o", "--skip-test=across-reboot"),
                *(str(PACKAGE), "--", name, IMAGE),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])


def table(steps: Iterable[Step]) -> Iterator[str]:
    """Yield the lines of a table: medians, and ratios to ours."""
    taken: dict[str, dict[str, list[Step]]] = {}
    for step in steps:
        of_step = taken.setdefault(step.name, {})
        of_step.setdefault(step.server, []).append(step)
    yield f"| step | {OURS} | {UPSTREAM} | ratio |"
    yield "|---|---:|---:|---:|"
    for name, by_server in taken.items():
        ours, theirs = (_median(by_server[server]) for server in PROGRAMS)
        ratio = f"{theirs / ours:.1f}" if ours and theirs else ""
        yield f"| {name} | {_shown(ours)} | {_shown(theirs)} | {ratio} |"


def _median(steps: list[Step]) -> float | None:
    seconds = [step.seconds for step in steps if step.seconds is not None]
    return statistics.median(seconds) if seconds else None


def _shown(seconds: float | None) -> str:
    return "never noticed" if seconds is None else f"{seconds:.2f} s"


if __name__ == "__main__":
    main()
