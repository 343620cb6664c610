# SPDX-License-Identifier: GPL-3.0-or-later
"""Run tests in a cluster, as on one machine.

    python3 -m tests.cluster.suites ARGUMENT...

The arguments go to pytest.  It runs on the first of two members, in a copy of
this checkout.  Incus chooses the member of each testbed.
"""

import os
import signal
import sys

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from tests.cluster.cluster import formed
from tests.support import daemon, images, kernel_limits
from tests.support.sandbox import sandbox

_MEMBERS = 2


def main() -> int:
    """Run the command line; give the exit status, which is pytest's."""
    signal.signal(signal.SIGTERM, daemon.on_sigterm)
    try:
        with daemon.running() as incus:
            os.environ.update(incus.environment)
            with (
                sandbox(str(os.getpid())) as mine,
                kernel_limits.for_many(),
                formed(Incus(project=mine.project), _MEMBERS) as cluster,
            ):
                # The suites make images, from the mirror that apt knows.
                cluster.first.guest.run("apt-get", "update")
                return cluster.first.watch(
                    *("env", "CI=true", "/usr/bin/python3", "-m", "pytest"),
                    *sys.argv[1:],
                )
    except (
        daemon.DaemonError,
        images.ImageError,
        errors.TestbedError,
    ) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
