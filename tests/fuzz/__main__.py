# SPDX-License-Identifier: GPL-3.0-or-later
"""Try every parser, or those that are named, for long.

    python3 -m tests.fuzz [--cases N] [--first N] [TARGET...]

Each case has a number, by which it can be tried again: --first=NUMBER
--cases=1.
"""

import argparse
import resource
import sys
import time
import traceback

from tests.fuzz.attempt import Hang, attempt
from tests.fuzz.targets import TARGETS, available


def _main() -> int:
    parser = argparse.ArgumentParser(description="Try every parser for long.")
    parser.add_argument("--cases", type=int, default=100_000, metavar="N")
    parser.add_argument("--first", type=int, default=0, metavar="NUMBER")
    parser.add_argument("targets", nargs="*", default=list(TARGETS))
    arguments = parser.parse_args()
    failed = False
    for name in arguments.targets:
        if not available(name):
            print(f"{name}: the programs that make its files are missing")
            failed = True
            continue
        numbers = range(arguments.first, arguments.first + arguments.cases)
        failed |= bool(_run(name, numbers))
    return int(failed)


def _run(name: str, numbers: range) -> int:
    """Run cases; return how many failed."""
    begun, longest, refused, failures = time.monotonic(), 0.0, 0, 0
    for number in numbers:
        start = time.process_time()
        try:
            refused += attempt(name, number)
        except (Exception, Hang):  # noqa: BLE001 - that is what is looked for
            failures += 1
            print(f"{name} --first={number} --cases=1", flush=True)
            traceback.print_exc(limit=-3)
        longest = max(longest, time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(
        f"{name}: {len(numbers)} cases, {refused} refused, {failures} failed,"
        f" {time.monotonic() - begun:.0f} s, the longest {longest:.2f} s,"
        f" at most {peak} MiB so far",
        flush=True,
    )
    return failures


if __name__ == "__main__":
    sys.exit(_main())
