# SPDX-License-Identifier: GPL-3.0-or-later
"""What a trip is: the documented commands that one kind of user types."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Step:
    """One command, as a page has it, and what has to come of it.

    ``values`` are put in place of words of the command, such as PACKAGE.
    ``says`` is a pattern that its output has to contain.
    ``types`` is what the user types while the command runs.
    ``user`` is who runs it, and ``folder`` the folder of the checkout to be in.
    ``terminal``: it is run at a terminal, as by a person.
    """

    command: str
    says: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    status: int = 0
    types: str = ""
    user: str = "root"
    folder: str = "."
    terminal: bool = False

    @property
    def script(self) -> str:
        """The command as it is typed, with its values."""
        script = self.command
        for placeholder, value in self.values.items():
            script = script.replace(placeholder, value)
        return script


@dataclass(frozen=True)
class Preparation:
    """What a page takes for granted, and no page tells to type."""

    why: str
    script: str


@dataclass(frozen=True)
class Trip:
    """From nothing to what a kind of user wants, in a fresh machine.

    ``packages`` are in the machine from the start.  ``tarball``: there is a
    system tarball, system.tar.zst, in the folder above the checkout.
    """

    name: str
    steps: Sequence[Step | Preparation]
    packages: Sequence[str] = ()
    tarball: bool = False

    @property
    def commands(self) -> list[str]:
        """The commands, as the pages have them."""
        return [step.command for step in self.steps if isinstance(step, Step)]
