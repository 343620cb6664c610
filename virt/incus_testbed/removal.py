# SPDX-License-Identifier: GPL-3.0-or-later
"""A process of its own that removes an instance, while its owner goes on.

Mostly that is the bare incus command: to start Python costs more than the rest.
Where it fails, or somebody has left garbage, Python takes over.  What that may
fail to remove is garbage as soon as the owner has ended, and the next of these
processes finds it.
"""

import shlex
import sys
from pathlib import Path

from incus_testbed import collect, errors, process
from incus_testbed.client import INSTANCE_LIMIT, Incus
from incus_testbed.instance import Instance

_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv.pop(1));"
    " from incus_testbed import removal; removal.main()"
)


def start(incus: Incus, name: str) -> None:
    """Have an instance removed, and return without waiting for that.

    The process outlives this one, its session and its terminal.
    """
    quick = ["timeout", f"{INSTANCE_LIMIT}", *incus.removal_argv(name)]
    thorough = [
        *(sys.executable, "-c", _PROGRAM),
        str(Path(__file__).resolve().parents[1]),
        *(incus.remote or "", incus.project or "", name),
    ]
    line = shlex.join(thorough)
    if not _is_garbage(incus):
        line = f"{shlex.join(quick)} || {line}"
    process.detach(["sh", "-c", line])


def _is_garbage(incus: Incus) -> bool:
    """Tell whether there is garbage; where nobody can tell, there may be."""
    try:
        return any(collect.find(incus).pieces())
    except errors.TestbedError:
        return True


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
