# SPDX-License-Identifier: GPL-3.0-or-later
"""A process of its own that removes an instance, while its owner goes on.

Mostly that is the bare incus command: to start Python costs more than the rest.
Where it fails, or there is garbage to remove too, Python takes over.  What that
may fail to remove is garbage as soon as the owner has ended, and for whoever
starts after that to find.
"""

import shlex
import sys
from pathlib import Path
from typing import TypeAlias

from incus_testbed import collect, errors, process
from incus_testbed.client import INSTANCE_LIMIT, Incus
from incus_testbed.instance import Instance

#: What looked like garbage: in words, what it is and its name.
Suspects: TypeAlias = frozenset[tuple[str, str]] | None

#: After an upgrade, an older version that goes on has the newer main() do this:
#: its name and its arguments stay.
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv.pop(1));"
    " from incus_testbed import removal; removal.main()"
)


def suspects(incus: Incus) -> Suspects:
    """Return what looks like garbage now; None where nobody can tell.

    Some of it may be on its way out: of several owners that end at a time,
    each would take the others' instances for garbage.  What is still there
    when this process ends, and nothing is being done to it, is garbage.
    """
    try:
        return frozenset(collect.find(incus).pieces())
    except errors.TestbedError:
        return None


def start(incus: Incus, name: str, suspected: Suspects) -> None:
    """Have an instance removed, and return without waiting for that.

    Garbage too, if some of what has been suspected earlier is still there.
    The process outlives this one, its session and its terminal.
    """
    quick = ["timeout", f"{INSTANCE_LIMIT}", *incus.removal_argv(name)]
    thorough = [
        *(sys.executable, "-c", _PROGRAM),
        str(Path(__file__).resolve().parents[1]),
        *(incus.remote or "", incus.project or "", name),
    ]
    line = shlex.join(thorough)
    if not _is_garbage(incus, suspected):
        line = f"{shlex.join(quick)} || {line}"
    process.detach(["sh", "-c", line])


def _is_garbage(incus: Incus, suspected: Suspects) -> bool:
    """Tell whether there is garbage; where nobody can tell, there may be."""
    if not suspected:
        return suspected is None
    now = suspects(incus)
    if now is None:
        return True
    left = {name for _, name in suspected & now}
    try:
        # Of many at once, one is removed for longer than another is in use.
        return not left <= incus.busy_instances()
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
