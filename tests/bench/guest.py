# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure in a guest, with the autopkgtest and Incus of its Debian.

    python3 -m tests.bench.guest SUITE [--rounds N] [--json FILE] [GROUP...]

What is committed here is measured in a guest that runs SUITE, with testbeds of
the same Debian.  A group is one of tests.bench, or "remote" for that of
tests.bench.remote; it is "servers", if none is given.  FILE gets the samples of
tests.bench.
"""

import argparse
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from incus_testbed.incus.client import Incus
from tests.bench.__main__ import GROUPS
from tests.e2e import checkout, guest
from tests.e2e.guest import Guest
from tests.support import own_project

_REMOTE = "remote"
_GROUPS = (*GROUPS, _REMOTE)
_JSON = "/root/figures.json"


def programs(arguments: argparse.Namespace) -> Iterator[list[str]]:
    """Yield the words, after python3 -m, of each program that measures."""
    options = [f"--suite={arguments.suite}", f"--rounds={arguments.rounds}"]
    if others := [group for group in arguments.groups if group != _REMOTE]:
        yield ["tests.bench", *options, f"--json={_JSON}", *others]
    if _REMOTE in arguments.groups:
        yield ["tests.bench.remote", *options]


def _measure(machine: Guest, arguments: argparse.Namespace) -> int:
    """Run the programs; return 0, or the status of the first that fails."""
    checkout.put(machine)
    # Images are made from the mirror that apt knows.
    machine.run("apt-get", "update")
    for program in programs(arguments):
        status = _run(machine, "python3", "-m", *program)
        if status:
            return status
    return 0


def _run(machine: Guest, *argv: str) -> int:
    return machine.watch(
        *("env", f"--chdir={checkout.PLACE}", "PYTHONPATH=virt:executor"),
        *("python3", "-m", "tests.support.daemon", "run", "--", *argv),
    )


def _fetch(machine: Guest, target: Path) -> None:
    """Get the figures, if there are some: also after a failure."""
    found = machine.attempt("cat", _JSON)
    if found.returncode == 0:
        target.write_text(found.stdout)


def _packages() -> list[str]:
    listed = subprocess.check_output(
        [Path(__file__).parents[1] / "bootstrap.sh", "list"], text=True
    )
    return listed.split()


def asked(words: Sequence[str]) -> argparse.Namespace:
    """Read a command line.

    :raises SystemExit: it is wrong, which was said
    """
    parser = argparse.ArgumentParser(prog="python3 -m tests.bench.guest")
    parser.add_argument("suite", metavar="SUITE")
    parser.add_argument("--rounds", type=int, default=5, metavar="TIMES")
    parser.add_argument("--json", type=Path, help="write all samples there")
    parser.add_argument(
        "groups",
        metavar="GROUP",
        nargs="*",
        default=["servers"],
        help=f"of {', '.join(_GROUPS)}; servers, if none is given",
    )
    # Options may stand between the suite and the groups.
    found = parser.parse_intermixed_args(words)
    # A guest takes minutes.
    if unknown := set(found.groups) - {*_GROUPS}:
        parser.error(f"there is no group {', '.join(sorted(unknown))}")
    return found


def main() -> int:
    """Run the command line; give the exit status."""
    arguments = asked(sys.argv[1:])

    def run() -> int:
        with guest.running(Incus(), arguments.suite, _packages()) as machine:
            status = _measure(machine, arguments)
            if arguments.json:
                _fetch(machine, arguments.json)
            return status

    return own_project.status(run)


if __name__ == "__main__":
    sys.exit(main())
