# SPDX-License-Identifier: GPL-3.0-or-later
"""Remember what this process owns in Incus: nobody has to search for it.

A forked process has an Owner of its own, and starts with nothing.  After exec()
a process has forgotten what it owned; gc removes that when it has ended.
"""

from enum import Enum, auto

from incus_testbed.ownership.owner import Owner


class Kind(Enum):
    """What is owned."""

    #: An instance, by its name; perhaps Incus has not made it.
    INSTANCE = auto()
    #: A claim on an image, by its name.
    CLAIM = auto()
    #: The import of an image that has no name yet, by the alias it is to get.
    IMPORT = auto()


_held: dict[tuple[Kind, str], Owner] = {}


def note(kind: Kind, name: str) -> None:
    """Remember something that this process makes now."""
    _held[kind, name] = Owner.current()


def forget(kind: Kind, name: str) -> None:
    """Forget what this process has given up, if it was remembered."""
    _held.pop((kind, name), None)


def names(kind: Kind) -> list[str]:
    """Return the names of what this process owns of a kind."""
    mine = Owner.current()
    return [
        name
        for (each, name), owner in list(_held.items())
        if each is kind and owner == mine
    ]
