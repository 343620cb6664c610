# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove an instance in a separate process, while its owner goes on.

Usually that process is the bare incus command, because starting Python would
cost more than everything else.  If incus fails, or if there is garbage to
remove too, Python takes over.  If Python also fails, the instance becomes
garbage as soon as its owner has ended, and a later process finds it.
"""

import os
import shlex
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TypeAlias

from incus_testbed import errors
from incus_testbed.cleanup.ownerless import named, ownerless
from incus_testbed.incus.client import Incus
from incus_testbed.incus.connection import INSTANCE_LIMIT
from incus_testbed.instance import naming
from incus_testbed.instance.instance import Instance
from incus_testbed.ownership.owner import judge
from incus_testbed.process import programs

#: Names of instances that looked like garbage.  None if that is not known.
Suspects: TypeAlias = frozenset[str] | None

#: So many instances are looked at.
_FEW = 10

#: After an upgrade, an older version that still runs calls the newer main():
#: so the name and the arguments of main() must not change.
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv.pop(1));"
    " from incus_testbed.cleanup import background; background.main()"
)


def suspects(incus: Incus, mine: str) -> Suspects:
    """Return what looks like garbage now; None if that is not known.

    It is looked for among a few instances without ``mine``, so that this takes
    no longer where there are many.  Of many, those with a name of our making
    come first, in an order by chance: other processes look at others.

    Some of it may just be in removal: if several owners end at the same time,
    each would take the instances of the others for garbage.  It is garbage if
    it is still there when this process ends, and Incus is not working on it.

    Two looks, because one makes each of many closing testbeds start Python,
    with 0.09 s of processor time where incus takes 0.01.  With no look, the
    instance of a killed server would run until the package's timer comes, for
    up to an hour; in a checkout, until somebody calls gc.
    """
    try:
        names = [name for name in incus.instance_names() if name != mine]
        names.sort(
            key=lambda name: (not naming.may_be_ours(name), os.urandom(4))
        )
        return _orphans(incus, names[:_FEW])
    except errors.TestbedError:
        return None


def start(incus: Incus, name: str, suspected: Suspects) -> None:
    """Have an instance removed, and return without waiting for that.

    Garbage is removed too, if some of what was ``suspected`` earlier is still
    there.  The process continues when this one, its session and its terminal
    end.
    """
    quick = ["timeout", f"{INSTANCE_LIMIT}", *incus.removal_argv(name)]
    thorough = [
        *(sys.executable, "-c", _PROGRAM),
        str(Path(__file__).resolve().parents[2]),
        *(incus.remote or "", incus.project or "", name),
    ]
    line = shlex.join(thorough)
    if not _is_garbage(incus, suspected):
        line = f"{shlex.join(quick)} || {line}"
    programs.detach(["sh", "-c", line])


def _is_garbage(incus: Incus, suspected: Suspects) -> bool:
    """Tell whether there is garbage; true if that is not known."""
    if not suspected:
        return suspected is None
    try:
        left = _orphans(incus, suspected)
        # When many testbeds close together, deleting one can outlast another's
        # whole life.
        return not left <= incus.busy_instances()
    except errors.TestbedError:
        return True


def _orphans(incus: Incus, names: Iterable[str]) -> frozenset[str]:
    """Return those of some instances whose owner has ended."""
    found = ownerless(named(incus, names), judge(incus.is_only_here))
    return frozenset(record.name for record in found)


def main() -> None:
    """Remove the instance that the command line names, then any garbage."""
    # Imported here: a process that only has an instance removed goes without.
    from incus_testbed.cleanup import garbage  # noqa: PLC0415

    remote, project, name = sys.argv[1:]
    incus = Incus(remote=remote or None, project=project or None)
    try:
        Instance(incus, name).delete()
        # There is some, perhaps with a name that a user gave.
        garbage.collect(incus, thorough=True)
    except errors.TestbedError as error:
        # Nothing reads our output; the exit status only helps someone tracing
        # the process.
        sys.exit(error.brief)
