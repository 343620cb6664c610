# SPDX-License-Identifier: GPL-3.0-or-later
"""A worker's year in an hour or two.

    python3 -m tests.faults.soak [--kills N] [--cycles N] [--minutes N]

kills each operation at N moments, in each of three ways; does the same to
Debusine's own executor; runs N instances, one after the other; and has eight
processes use one Incus for N minutes, half of which are killed.  Prints the
figures.  The status is 1 if anything is wrong.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance
from tests.faults.crash import Kill, alone, attempt, spread, with_session
from tests.faults.operation import collection, upstreams_life
from tests.faults.private_incus import PrivateIncus
from tests.faults.private_incus import private_incus as prepared
from tests.support import images

AT_ONCE = 8
#: Seconds at most until one of the eight is killed, if it is to be.
_MOMENT = 8


def kills(private_incus: PrivateIncus, count: int) -> list[str]:
    """Kill each operation, and the daemon under it, at so many moments.

    Returns what was broken by it.
    """
    ways: dict[str, Kill] = {
        "process": alone,
        "session": with_session,
        "incusd": private_incus.kill_daemon,
    }
    broken = []
    for operation in private_incus.operations:
        for victim, kill in ways.items():
            for moment in spread(private_incus.seconds[operation.name], count):
                crash = private_incus.crash(operation, moment=moment, kill=kill)
                broken += [
                    f"{operation.name}, {victim} killed at {moment:.3f} s:"
                    f" {what}"
                    for what in crash.broken
                ]
    return broken


def upstreams_remains(private_incus: PrivateIncus, count: int) -> int:
    """Kill Debusine's executor at so many moments; count what it leaves.

    That is instances, which stay until somebody removes them.
    """
    operation = upstreams_life(private_incus.image)
    left = 0
    seconds = attempt(private_incus.workspace, operation).seconds
    for moment in spread(seconds, count):
        attempt(
            private_incus.workspace, operation, moment=moment, kill=with_session
        )
        private_incus.workspace.settle()
        for record in private_incus.workspace.incus.instances():
            Instance(private_incus.workspace.incus, record.name).delete()
            left += 1
    return left


def cycles(private_incus: PrivateIncus, count: int) -> list[str]:
    """Launch, use and stop so many instances in this process.

    Returns what there is more of afterwards.
    """
    before, mine = private_incus.resources(), _open()
    for _ in range(count):
        with Instance.launch(
            Incus(), private_incus.image, purpose="soak"
        ) as instance:
            instance.wait_ready()
            instance.guest.run(["true"], check=True)
            instance.stop()
    private_incus.workspace.settle()
    grown = private_incus.grown(before)
    if _open() > mine:
        grown.append(f"descriptors here: {mine} before, {_open()} after")
    return grown


def stampede(
    private_incus: PrivateIncus, seconds: float
) -> tuple[int, list[str]]:
    """Have processes side by side for a while, and kill half of them.

    Returns how many there were; and what those said that were let live and
    failed, what was broken, and what there is more of afterwards.
    """
    private_incus.clear()
    before = private_incus.resources()
    deadline = time.monotonic() + seconds
    with ThreadPoolExecutor(AT_ONCE) as pool:
        lines = [
            pool.submit(_line, private_incus, random.Random(number), deadline)  # noqa: S311
            for number in range(AT_ONCE)
        ]
    said = [each for line in lines for each in line.result()]
    private_incus.workspace.settle()
    broken = list(private_incus.workspace.broken())
    private_incus.clear()
    return len(said), [
        *filter(None, said),
        *broken,
        *private_incus.grown(before),
    ]


def _line(
    private_incus: PrivateIncus, chance: random.Random, deadline: float
) -> list[str]:
    """Run one operation after the other; say of each what is wrong."""
    said = []
    while time.monotonic() < deadline:
        operation = chance.choice([*private_incus.operations, collection()])
        doomed = chance.random() < 0.5
        if chance.random() < 0.2:
            private_incus.clear()
        tried = attempt(
            private_incus.workspace,
            operation,
            kill=chance.choice([alone, with_session]),
            **({"moment": chance.uniform(0, _MOMENT)} if doomed else {}),
        )
        failed = tried.status != 0 and not doomed
        said.append(f"{operation.name}: {tried.said}" if failed else "")
    return said


def _open() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def main() -> int:
    """Run the command line; give its exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.faults.soak")
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--cycles", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=10)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        prepared(images.build("bookworm"), Path(folder)) as private_incus,
    ):
        count = arguments.kills
        broken = kills(private_incus, count)
        total = count * len(private_incus.operations) * 3
        print(f"kills: {total}, invariants broken: {len(broken)}")
        left = upstreams_remains(private_incus, count)
        print(f"Debusine's executor: kills: {count}, instances left: {left}")
        grown = cycles(private_incus, arguments.cycles)
        print(f"instances in a row: {arguments.cycles}; more of: {grown}")
        processes, wrong = stampede(private_incus, arguments.minutes * 60)
        print(f"{AT_ONCE} side by side: {processes}, wrong: {len(wrong)}")
        _list(broken + wrong)
    return 1 if broken or grown or wrong else 0


def _list(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"- {line}")


if __name__ == "__main__":
    sys.exit(main())
