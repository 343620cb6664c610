# SPDX-License-Identifier: GPL-3.0-or-later
"""Run trips, each in a fresh machine that runs SUITE; print what they print.

    python3 -m tests.trips [--transcript FILE] SUITE [TRIP...]

SUITE is trixie, sid, or another that has Incus, also in backports, such as
bookworm-backports.  Without names, all trips are run.
"""

import argparse
import os
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from tests.e2e import guest, packages
from tests.support import daemon, images, kernel_limits, sandbox
from tests.trips import TRIPS
from tests.trips.journey import Failed, Journey


def _run(
    suite: str, names: list[str], say: Callable[[str], None]
) -> list[Failed]:
    """Build our packages, and run the trips; return what went wrong."""
    failures = []
    with tempfile.TemporaryDirectory() as scratch:
        built = Path(scratch)
        with packages.builder(Incus(), images.codename(suite)) as builder:
            builder.build("/build/packages", *_WITHOUT_TESTS)
            builder.pull("/build/packages", built)
        for trip in TRIPS:
            if trip.name not in names:
                continue
            with guest.running(
                Incus(), images.codename(suite), trip.packages
            ) as machine:
                journey = Journey(machine, suite, say)
                journey.prepare(built)
                if trip.tarball:
                    journey.bring_tarball()
                try:
                    journey.make(trip)
                except Failed as failure:
                    failures.append(failure)
    return failures


#: Their tests have been run, and are run by the packages' own.
_WITHOUT_TESTS = ("env", "DEB_BUILD_OPTIONS=nocheck")


def main() -> int:
    """Run the command line; return its exit status."""
    names = [trip.name for trip in TRIPS]
    parser = argparse.ArgumentParser(prog="tests.trips")
    parser.add_argument("--transcript", type=Path, default=os.devnull)
    parser.add_argument("suite")
    parser.add_argument("trip", nargs="*", choices=[*names, []])
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, daemon.on_sigterm)
    with arguments.transcript.open("w") as transcript:

        def say(text: str) -> None:
            for stream in (sys.stdout, transcript):
                print(text, file=stream, flush=True)

        try:
            with daemon.running() as incus:
                os.environ.update(incus.environment)
                with sandbox.sandbox(str(os.getpid())) as mine:
                    os.environ["INCUS_PROJECT"] = mine.project
                    with kernel_limits.for_many():
                        failures = _run(
                            arguments.suite, arguments.trip or names, say
                        )
        except (
            daemon.DaemonError,
            images.ImageError,
            errors.TestbedError,
        ) as error:
            print(error, getattr(error, "details", ""), file=sys.stderr)
            return 1
    for failure in failures:
        say(f"FAILED: {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
