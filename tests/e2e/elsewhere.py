# SPDX-License-Identifier: GPL-3.0-or-later
"""Run tests of this checkout on another Debian, in a guest with an Incus.

    python3 -m tests.e2e.elsewhere SUITE [ARGUMENT...]

hands the arguments to the guest's pytest, and ends with its status.
"""

import os
import signal
import sys
import tempfile
from pathlib import Path

from incus_testbed import errors
from incus_testbed.client import Incus
from tests import daemon, room, sandbox
from tests.e2e import guest, packages

_CHECKOUT = "/root/checkout"
_PREPARATION = f"""
mkdir {_CHECKOUT}
tar -xf /root/source.tar -C {_CHECKOUT}
{_CHECKOUT}/tests/bootstrap.sh test
"""


def run(suite: str, arguments: list[str]) -> int:
    """Run pytest there; return its status."""
    with (
        room.for_many(),
        tempfile.TemporaryDirectory() as folder,
        guest.running(Incus(), suite, ("ca-certificates", "git")) as machine,
    ):
        source = Path(folder, "source.tar")
        packages.pack(source)
        machine.push(source, "/root")
        machine.run("sh", "-euc", _PREPARATION)
        return machine.show(
            *("env", f"--chdir={_CHECKOUT}"),
            *("CI=true", "PYTHONPATH=virt:executor"),
            *("/usr/bin/python3", "-m", "pytest", *arguments),
        )


def main() -> int:
    """Run the command line; give its exit status."""
    suite, *arguments = sys.argv[1:]
    signal.signal(signal.SIGTERM, daemon.on_sigterm)
    try:
        with daemon.running() as incus:
            os.environ.update(incus.environment)
            with sandbox.sandbox(str(os.getpid())) as mine:
                os.environ["INCUS_PROJECT"] = mine.project
                return run(suite, arguments)
    except (daemon.DaemonError, errors.TestbedError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
