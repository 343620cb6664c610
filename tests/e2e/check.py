# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the tests in another Debian, with the Incus and autopkgtest it has.

    python3 -m tests.e2e.check SUITE [ARGUMENT...]

What is committed here is tested in a guest that runs SUITE.  The arguments go
to pytest: without any it runs all tests that need no Debusine server.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

from incus_testbed.incus.client import Incus
from tests.e2e import guest
from tests.e2e.guest import Guest
from tests.support import own_project

_ROOT = Path(__file__).resolve().parents[2]
_CHECKOUT = "/root/checkout"


def check(machine: Guest, *arguments: str) -> int:
    """Run pytest on this checkout in a machine; return its exit status."""
    with tempfile.TemporaryDirectory() as scratch:
        tarball = Path(scratch, "checkout.tar")
        subprocess.run(
            ["git", "archive", f"--output={tarball}", "HEAD"],
            cwd=_ROOT,
            check=True,
        )
        machine.push(tarball, "/root")
    machine.run("mkdir", _CHECKOUT)
    machine.run("tar", "-xf", "/root/checkout.tar", "-C", _CHECKOUT)
    machine.run(f"{_CHECKOUT}/tests/bootstrap.sh", "test")
    return machine.watch(
        *("env", f"--chdir={_CHECKOUT}", "CI=true"),
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
