# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the tests in another Debian, with the Incus and autopkgtest it has.

    python3 -m tests.e2e.check SUITE [ARGUMENT...]

What is committed here is tested in a guest that runs SUITE.  The arguments go
to pytest: without any it runs all tests that need no Debusine server.
"""

import sys

from incus_testbed.incus.client import Incus
from tests.e2e import checkout, guest
from tests.e2e.guest import Guest
from tests.support import own_project


def check(machine: Guest, *arguments: str) -> int:
    """Run pytest on this checkout in a machine; return its exit status."""
    checkout.put(machine)
    machine.run(f"{checkout.PLACE}/tests/bootstrap.sh", "test")
    return machine.watch(
        *("env", f"--chdir={checkout.PLACE}", "CI=true"),
        *("/usr/bin/python3", "-m", "pytest", *arguments),
    )


def main() -> int:
    """Run the command line; give the exit status, which is pytest's."""
    if len(sys.argv) < 2 or sys.argv[1].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    suite, *arguments = sys.argv[1:]

    def run() -> int:
        with guest.running(Incus(), suite, ()) as machine:
            return check(machine, *(arguments or ["-v"]))

    return own_project.status(run)


if __name__ == "__main__":
    sys.exit(main())
