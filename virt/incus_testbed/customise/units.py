# SPDX-License-Identifier: GPL-3.0-or-later
"""Enable and mask systemd units in an image that is not running."""

from collections.abc import Iterator

from incus_testbed.system.entry import Entry
from incus_testbed.system.facts import Facts
from incus_testbed.system.unit_file import Install

_ADMIN = "etc/systemd/system"


def enabled(facts: Facts, unit: str) -> Iterator[Entry]:
    """Yield the links that `systemctl enable` would make for a unit.

    The unit's file in the image names the links, so the extra sockets of a new
    release are enabled too.  ``Also=`` is followed only to units that the
    survey knows.  systemd-network-generator is not one of them, because it
    reads the kernel's command line, which in a container is the host's.
    """
    todo, done = [unit], {unit}
    while todo:
        name = todo.pop(0)
        # The survey knows no unit that is only in /etc or whose file is empty.
        install = facts.units.get(name, Install())
        for wanting in install.wanted_by:
            yield wanted(wanting, name, f"/lib/systemd/system/{name}")
        for alias in install.alias:
            yield Entry(
                path=f"{_ADMIN}/{alias}",
                kind="symlink",
                target=f"/lib/systemd/system/{name}",
            )
        for also in install.also:
            if also in facts.units and also not in done:
                todo.append(also)
                done.add(also)


def wanted(wanting: str, unit: str, target: str = "") -> Entry:
    """Return the link that makes one unit want another.

    ``target`` is the path of the wanted unit's file, by default in /etc.
    """
    return Entry(
        path=f"{_ADMIN}/{wanting}.wants/{unit}",
        kind="symlink",
        target=target or f"/{_ADMIN}/{unit}",
    )


def masked(name: str, *, folder: str = "system") -> Entry:
    """Return the link that has systemd ignore a unit.

    Or it ignores a file of another of its folders, such as network.
    """
    return Entry(
        path=f"etc/systemd/{folder}/{name}", kind="symlink", target="/dev/null"
    )
