# SPDX-License-Identifier: GPL-3.0-or-later
"""What testbeds need of a host, and what was found of it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """How far a requirement is met."""

    GOOD = "ok"
    NOTE = "note"  # not every machine has to be able to do it
    WARNING = "warning"  # testbeds work, with the drawback that is named
    FAILED = "failed"
    UNKNOWN = "not checked"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check saw.

    ``fix`` holds the commands that meet the requirement; incus is aimed at
    the right project by who runs it.  ``advice`` is for what a person has to
    do instead, with the very command to type.
    """

    state: State
    detail: str
    fix: tuple[tuple[str, ...], ...] = ()
    advice: str = ""


#: Incus's names of what runs containers, and what runs virtual machines.
CONTAINERS, MACHINES = "lxc", "qemu"
ALL = frozenset({CONTAINERS, MACHINES})


@dataclass(frozen=True)
class Requirement:
    """One thing that is to be so; ``check`` changes nothing.

    ``drivers`` are those whose instances can't run without it.  Where there
    are none, it is for an admin to tidy.  ``asks_server``: it can be checked
    only where Incus answers.
    """

    name: str
    check: Callable[[], Finding]
    drivers: frozenset[str] = frozenset()
    asks_server: bool = False


def good(detail: str) -> Finding:
    """Return the finding that all is well."""
    return Finding(state=State.GOOD, detail=detail)
