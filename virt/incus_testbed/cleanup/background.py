# SPDX-License-Identifier: GPL-3.0-or-later
"""Remove an instance in a copy of its owner's process, while that goes on.

If that fails, the instance becomes garbage as soon as its owner has ended, and
a later process finds it.
"""

import os
from collections.abc import Iterable
from functools import partial
from typing import TypeAlias

from incus_testbed import errors
from incus_testbed.cleanup.ownerless import named, ownerless
from incus_testbed.incus.client import Incus
from incus_testbed.instance import naming
from incus_testbed.instance.instance import Instance
from incus_testbed.ownership.owner import judge
from incus_testbed.process import survivor

#: Names of instances that looked like garbage.  None if that is not known.
Suspects: TypeAlias = frozenset[str] | None

#: So many instances are looked at.
_FEW = 10


def suspects(incus: Incus, mine: str) -> Suspects:
    """Return what looks like garbage now; None if that is not known.

    It is looked for among a few instances without ``mine``, so that this takes
    no longer where there are many.  Of many, those with a name of our making
    come first, in an order by chance: other processes look at others.

    Some of it may just be in removal: if several owners end at the same time,
    each would take the instances of the others for garbage.  It is garbage if
    it is still there when this process ends, and Incus is not working on it.

    With no look, the instance of a killed server would run until the package's
    timer comes, for up to an hour; in a checkout, until somebody calls gc.
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
    there.
    """
    survivor.leave(partial(_remove, incus, name, suspected))


def _remove(incus: Incus, name: str, suspected: Suspects) -> None:
    Instance(incus, name).delete()
    if _is_garbage(incus, suspected):
        # Imported here: a process that only has an instance removed goes
        # without.
        from incus_testbed.cleanup import garbage  # noqa: PLC0415

        # Thorough: it has perhaps a name that a user gave.
        garbage.collect(incus, thorough=True)


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
