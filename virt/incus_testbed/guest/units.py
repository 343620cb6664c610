# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd units enabled in an image that does not run."""

from collections.abc import Iterator

from incus_testbed.image.entry import Entry
from incus_testbed.image.facts import Facts
from incus_testbed.image.unit_file import Install

_ADMIN = "etc/systemd/system"


def enabled(facts: Facts, unit: str) -> Iterator[Entry]:
    """Yield the links that `systemctl enable` would make for a unit.

    Its file in the image says which; so a new release's extra sockets come
    by themselves.  ``Also=`` is followed as far as the survey knows units:
    systemd-network-generator reads the kernel's command line, which in a
    guest is the host's, and is left out.
    """
    todo, done = [unit], {unit}
    while todo:
        name = todo.pop(0)
        # A unit that is only in /etc, or an empty file, is not known.
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
    """Return the link by which one unit wants another.

    ``target`` is where the wanted unit's file is, /etc unless given.
    """
    return Entry(
        path=f"{_ADMIN}/{wanting}.wants/{unit}",
        kind="symlink",
        target=target or f"/{_ADMIN}/{unit}",
    )


def masked(unit: str) -> Entry:
    """Return the link that keeps a unit from ever starting."""
    return Entry(path=f"{_ADMIN}/{unit}", kind="symlink", target="/dev/null")
