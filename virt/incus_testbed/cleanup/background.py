# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove an instance in a separate process, while its owner goes on.

Usually that process is the bare incus command, because starting Python would
cost more than everything else.  If incus fails, or if there is garbage to
remove too, Python takes over.  If Python also fails, the instance becomes
garbage as soon as its owner has ended, and a later process finds it.
"""

import shlex
import sys
from pathlib import Path
from typing import TypeAlias

from incus_testbed import errors
from incus_testbed.cleanup import garbage
from incus_testbed.incus.client import Incus
from incus_testbed.incus.connection import INSTANCE_LIMIT
from incus_testbed.instance.instance import Instance
from incus_testbed.process import programs

#: What looked like garbage: the kind, in words, and the name of each piece.
#: None if that is not known.
Suspects: TypeAlias = frozenset[tuple[str, str]] | None

#: After an upgrade, an older version that still runs calls the newer main():
#: so the name and the arguments of main() must not change.
_PROGRAM = (
    "import sys; sys.path.insert(0, sys.argv.pop(1));"
    " from incus_testbed.cleanup import background; background.main()"
)


def suspects(incus: Incus) -> Suspects:
    """Return what looks like garbage now; None if that is not known.

    Some of it may just be in removal: if several owners end at the same time,
    each would take the instances of the others for garbage.  It is garbage if
    it is still there when this process ends, and Incus is not working on it.

    Two looks, because one makes each of many closing testbeds start Python,
    with 0.09 s of processor time where incus takes 0.01.  With no look, the
    instance of a killed server would run until the package's timer comes, for
    up to an hour; in a checkout, until somebody calls gc.
    """
    try:
        return frozenset(garbage.find(incus, with_locks=False).pieces())
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
    now = suspects(incus)
    if now is None:
        return True
    left = {name for _, name in suspected & now}
    try:
        # When many testbeds close together, deleting one can outlast another's
        # whole life.
        return not left <= incus.busy_instances()
    except errors.TestbedError:
        return True


def main() -> None:
    """Remove the instance that the command line names, then any garbage."""
    remote, project, name = sys.argv[1:]
    incus = Incus(remote=remote or None, project=project or None)
    try:
        Instance(incus, name).delete()
        garbage.collect(incus)
    except errors.TestbedError as error:
        # Nothing reads our output; the exit status only helps someone tracing
        # the process.
        sys.exit(error.brief)
