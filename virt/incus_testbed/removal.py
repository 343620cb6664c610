# SPDX-License-Identifier: GPL-3.0-or-later
"""A process of its own that removes an instance, while its owner goes on.

What it may fail to remove is garbage as soon as the owner has ended, and the
next of these processes collects that too.
"""

import sys
from pathlib import Path

from incus_testbed import collect, errors, process
from incus_testbed.client import Incus
from incus_testbed.instance import Instance

_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv.pop(1));"
    " from incus_testbed import removal; removal.main()"
)


def start(incus: Incus, name: str) -> None:
    """Have an instance removed, and return at once.

    The process outlives this one, its session and its terminal.
    """
    process.detach(
        [
            sys.executable,
            "-c",
            _PROGRAM,
            str(Path(__file__).resolve().parents[1]),
            incus.remote or "",
            incus.project or "",
            name,
        ]
    )


def main() -> None:
    """Remove the instance that the command line names, then any garbage."""
    remote, project, name = sys.argv[1:]
    incus = Incus(remote=remote or None, project=project or None)
    try:
        Instance(incus, name).delete()
        collect.collect(incus)
    except errors.TestbedError as error:
        # Nobody listens; the status is for who traces this.
        sys.exit(error.brief)
