# SPDX-License-Identifier: GPL-3.0-or-later
"""Run trips, each in a fresh machine that runs SUITE; print what they print.

    python3 -m tests.trips [--transcript FILE] SUITE [TRIP...]

SUITE is trixie, sid, or another that has Incus, such as trixie-backports;
bookworm has it in backports.  Without names, all trips are run.

    python3 -m tests.trips --list

prints each documented command, and who runs it.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from incus_testbed.incus.client import Incus
from tests.e2e import guest, packages
from tests.support import images, own_project
from tests.trips import TRIPS, coverage
from tests.trips.journey import Journey
from tests.trips.trip import Trip

_SUITES = {"bookworm": "bookworm-backports"}
#: Our packages' tests have been run, and are run by the packages' own.
_CONDITIONS = ("env", "DEB_BUILD_OPTIONS=nocheck")
_BUILT = "/build/packages"

Say = Callable[[str], None]


def make(suite: str, trips: Sequence[Trip], say: Say) -> list[str]:
    """Build our packages, and make the trips; return what went wrong."""
    failures: list[str] = []
    codename = images.codename(suite)
    with tempfile.TemporaryDirectory() as scratch:
        built = Path(scratch)
        with packages.builder(Incus(), codename) as builder:
            builder.build(_BUILT, *_CONDITIONS)
            builder.pull(_BUILT, built)
        for trip in trips:
            say(f"== {trip.name}, on {suite}")
            # Packages may be in backports alone, which a bare machine
            # does not know yet.
            system = suite if trip.packages else codename
            with guest.running(Incus(), system, trip.packages) as machine:
                journey = Journey(machine, suite, say)
                journey.prepare(built, trip)
                failures += journey.make(trip)
    return failures


def main() -> int:
    """Run the command line; return its exit status."""
    known = {trip.name: trip for trip in TRIPS}
    parser = argparse.ArgumentParser(prog="tests.trips")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--transcript", type=Path, default=Path(os.devnull))
    parser.add_argument("suite", nargs="?", default="trixie")
    parser.add_argument("trip", nargs="*", help=", ".join(known))
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(coverage.lines()))
        return 0
    if unknown := set(arguments.trip) - known.keys():
        parser.error(f"no such trip: {', '.join(unknown)}")
    trips = [known[name] for name in arguments.trip or known]
    with arguments.transcript.open("w") as transcript:

        def say(text: str) -> None:
            for stream in (sys.stdout, transcript):
                print(text, file=stream, flush=True)

        def run() -> int:
            suite = _SUITES.get(arguments.suite, arguments.suite)
            failures = make(suite, trips, say)
            for failure in failures:
                say(f"FAILED: {failure}")
            return 1 if failures else 0

        return own_project.status(run)


if __name__ == "__main__":
    sys.exit(main())
