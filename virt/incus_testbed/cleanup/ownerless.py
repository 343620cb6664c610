# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell which of some instances have no owner any more.

This is apart from garbage.py, so that a virt server, which looks at a few
instances, starts without what garbage.py needs for images and locks.
"""

import contextlib
from collections.abc import Iterable, Iterator

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import InstanceRecord
from incus_testbed.instance.creation import owner_of
from incus_testbed.ownership.owner import Judge


def named(incus: Incus, names: Iterable[str]) -> Iterator[InstanceRecord]:
    """Yield the instances of these names that are there.

    Each is asked for alone, so that others cost nothing.
    """
    for name in names:
        with contextlib.suppress(errors.NotFound):
            yield incus.instance(name)


def ownerless(
    instances: Iterable[InstanceRecord], is_gone: Judge
) -> Iterator[InstanceRecord]:
    """Yield those whose owner has ended."""
    for record in instances:
        owner = owner_of(record)
        if owner and is_gone(owner):
            yield record
