# SPDX-License-Identifier: GPL-3.0-or-later
"""Define a requirement of testbeds on a host, and the finding about it."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum


class State(Enum):
    """How far a requirement is met."""

    GOOD = "ok"
    NOTE = "note"  # not met, but not every machine needs it
    WARNING = "warning"  # testbeds work, with the named drawback
    FAILED = "failed"
    UNKNOWN = "not checked"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """The result of a check.

    ``fix`` holds the commands that meet the requirement; the caller adds the
    project to calls of incus.  ``advice`` says what a person has to do
    instead, with the exact command to type.
    """

    state: State
    detail: str
    fix: tuple[tuple[str, ...], ...] = ()
    advice: str = ""


#: Incus's names of the drivers for containers and for virtual machines.
CONTAINERS, MACHINES = "lxc", "qemu"
ALL = frozenset({CONTAINERS, MACHINES})


@dataclass(frozen=True)
class Requirement:
    """One requirement; ``check`` changes nothing.

    ``drivers`` are those whose instances can't run without it.  If there are
    none, an admin should meet it, but all instances run.  ``asks_server``: it
    can be checked only if Incus answers.
    """

    name: str
    check: Callable[[], Finding]
    drivers: frozenset[str] = frozenset()
    asks_server: bool = False


def good(detail: str) -> Finding:
    """Return the finding that a requirement is met."""
    return Finding(state=State.GOOD, detail=detail)


def failed(
    detail: str, advice: str = "", *, fix: tuple[tuple[str, ...], ...] = ()
) -> Finding:
    """Return the finding that a requirement is not met."""
    return Finding(state=State.FAILED, detail=detail, fix=fix, advice=advice)


def warning(detail: str, advice: str) -> Finding:
    """Return the finding that testbeds work, with a drawback."""
    return Finding(state=State.WARNING, detail=detail, advice=advice)
