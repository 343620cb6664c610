# SPDX-License-Identifier: GPL-3.0-or-later
"""Run tests in a cluster, as on one machine.

    python3 -m tests.cluster.suites ARGUMENT...

The arguments go to pytest.  It runs on the first of two members, in a copy of
this checkout.  Incus chooses the member of each testbed.
"""

import sys

from incus_testbed.incus.client import Incus
from tests.cluster.cluster import formed
from tests.support import own_project

_MEMBERS = 2


def main() -> int:
    """Run the command line; give the exit status, which is pytest's."""
    return own_project.status(_run)


def _run() -> int:
    with formed(Incus(), _MEMBERS) as cluster:
        # The suites make images, from the mirror that apt knows.
        cluster.first.guest.run("apt-get", "update")
        return cluster.first.watch(
            *("env", "CI=true", "/usr/bin/python3", "-m", "pytest"),
            *sys.argv[1:],
        )


if __name__ == "__main__":
    sys.exit(main())
