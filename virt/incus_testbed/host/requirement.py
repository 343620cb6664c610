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


@dataclass(frozen=True)
class Requirement:
    """One thing that testbeds need; ``check`` changes nothing."""

    name: str
    check: Callable[[], Finding]


def good(detail: str) -> Finding:
    """Return the finding that all is well."""
    return Finding(state=State.GOOD, detail=detail)
