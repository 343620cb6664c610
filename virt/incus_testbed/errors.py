# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong, in terms a user can act on."""

#: Characters of a part of a message; a guest's console can say more.
_LONGEST = 1 << 16


def printable(text: str, *, kept: str = "") -> str:
    """Return text of unknown origin without what a terminal acts upon.

    Control characters and those that change the direction of writing are
    shown as Python writes them, but for those in ``kept``.
    """
    return "".join(
        character
        if character.isprintable() or character in kept
        else ascii(character).strip("'")
        for character in text
    )


class TestbedError(Exception):
    """A failure with its cause and the next step.

    ``brief`` says in one line what happened, ``details`` what the program
    underneath said, ``resolution`` what to do or type next.  The last two may
    be empty.  All are safe for a terminal or a log, whatever an image or a
    guest has put into them.
    """

    __test__ = False  # pytest: not a test class, whatever its name

    def __init__(
        self, brief: str, *, details: str = "", resolution: str = ""
    ) -> None:
        """Keep the three parts apart, for callers that print them."""
        self.brief = _message(brief)
        self.details = details
        self.resolution = _message(resolution)
        super().__init__(self.brief)

    @property
    def details(self) -> str:
        """What the program underneath said; more can be added to it."""
        return self._details

    @details.setter
    def details(self, text: str) -> None:
        self._details = _message(text)

    def __str__(self) -> str:
        """Return the parts that are there, a line or more each."""
        return "\n".join(
            part for part in (self.brief, self.details, self.resolution) if part
        )


def _message(text: str) -> str:
    lines = text.replace("\r\n", "\n").strip()
    if len(lines) > _LONGEST:
        lines = f"{lines[:_LONGEST]} ... ({len(lines) - _LONGEST} more)"
    return printable(lines, kept="\n\t")


class NotFound(TestbedError):
    """The named image, instance, file, profile, network or pool is absent."""


class AlreadyExists(TestbedError):
    """The name is taken."""


class Denied(TestbedError):
    """Incus or the kernel refuses this user the operation."""


class DaemonDown(TestbedError):
    """No Incus daemon answers."""


class NotRunning(TestbedError):
    """The instance is not running."""


class AgentDown(NotRunning):
    """The agent of a virtual machine does not answer, or not yet."""


class Busy(TestbedError):
    """Another operation holds the object."""


class NoSpace(TestbedError):
    """A disk, pool or quota is full.

    ``lacking`` is how many bytes more there would have to be, 0 if not known.
    """

    lacking = 0


class LimitReached(TestbedError):
    """Something is larger than a limit, which the resolution names."""


class Unsupported(TestbedError):
    """This host, this Incus or this image cannot do what was asked."""


class TimedOut(TestbedError):
    """A time limit was reached."""


class BadImage(TestbedError):
    """The file cannot become an image; nothing was imported."""


class MissingProgram(TestbedError):
    """A program that is needed is not installed."""


class BootFailed(TestbedError):
    """The instance did not become ready; details hold the evidence."""


class CommandFailed(TestbedError):
    """A program failed for a reason that has no class of its own."""
