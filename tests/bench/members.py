# SPDX-License-Identifier: GPL-3.0-or-later
"""Testbeds of one machine, and of clusters with one, two and three members.

    python3 -m tests.bench.members [--testbeds N] [--at-once N] [--rounds N]

Each member is a guest of this machine, so that all share its processors: what
is measured is the cost of a cluster, not the gain.  The table says how many
testbeds an hour gives where several are at work at once.  The floor is the bare
incus commands.
"""

import argparse
import os
import signal
import statistics
import time
from collections.abc import Iterator

from incus_testbed.incus.client import Incus
from tests.bench.sample import FLOOR, OURS, turns
from tests.cluster.cluster import Member, machines
from tests.support import daemon, images, kernel_limits
from tests.support.sandbox import sandbox

_IMAGE = "bench/system"
_TARBALL = "/root/system.tar.zst"
_OURS = f"incus-testbed run {_IMAGE} -- true"
_BARE = (
    f"incus launch {_IMAGE} bare-$0 && incus exec bare-$0 -- true"
    " && incus delete --force bare-$0"
)
_COMMANDS = {OURS: _OURS, FLOOR: _BARE}


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.bench.members")
    parser.add_argument("--testbeds", type=int, default=18, metavar="N")
    parser.add_argument("--at-once", type=int, default=6, metavar="N")
    parser.add_argument("--rounds", type=int, default=3, metavar="N")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, daemon.on_sigterm)
    with (
        kernel_limits.for_many(),
        sandbox(f"{os.getpid()}") as mine,
        machines(Incus(project=mine.project), 3) as members,
    ):
        print("| machines | of | testbeds in an hour |")
        print("|---|---|---:|")
        for name, first in _grown(members):
            for line in _rows(first, name, arguments):
                print(line, flush=True)


def _grown(members: list[Member]) -> Iterator[tuple[str, Member]]:
    """Yield what a machine is a part of, from alone to a cluster of all."""
    first, *others = members
    _set_up(first)
    first.push(images.build("bookworm"), _TARBALL)
    words = ("import", _TARBALL, f"--alias={_IMAGE}")
    _succeed(first, "incus-testbed", *words)
    yield "one, no cluster", first
    first.found()
    yield "a cluster of 1", first
    for count, other in enumerate(others, 2):
        other.join(first)
        _set_up(first)
        yield f"a cluster of {count}", first


def _set_up(member: Member) -> None:
    _succeed(member, "incus-testbed", "setup")


def _succeed(member: Member, *argv: str) -> None:
    status, said = member.ours(*argv)
    assert status == 0, said


def _rows(
    first: Member, name: str, arguments: argparse.Namespace
) -> Iterator[str]:
    """Measure both contenders in turns, and yield a line for each."""
    taken: dict[str, list[float]] = {}
    # The first launch on each member copies and unpacks the image.
    _crowd(first, _OURS, 2 * arguments.at_once, arguments.at_once)
    for _, who in turns(list(_COMMANDS), arguments.rounds):
        seconds = _crowd(
            first, _COMMANDS[who], arguments.testbeds, arguments.at_once
        )
        taken.setdefault(who, []).append(seconds)
    for who, times in taken.items():
        an_hour = 3600 * arguments.testbeds / statistics.median(times)
        yield f"| {name} | {who} | {an_hour:.0f} |"


def _crowd(first: Member, command: str, count: int, at_once: int) -> float:
    """Run a command so often; return the seconds until all has gone."""
    start = time.monotonic()
    line = f"seq {count} | xargs -P{at_once} -I% sh -ec '{command}' %"
    _succeed(first, "sh", "-c", line)
    assert first.has_no_testbeds()
    return time.monotonic() - start


if __name__ == "__main__":
    main()
