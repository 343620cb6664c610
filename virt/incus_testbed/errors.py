# SPDX-License-Identifier: GPL-3.0-or-later
"""The errors of this software: what happened, and what the user can do."""

#: The most characters in a part of a message; a console log can be longer.
_LONGEST = 1 << 16


def printable(text: str, *, kept: str = "") -> str:
    """Return text of unknown origin in a form that is safe for a terminal.

    Control characters, and those that change the direction of writing, are
    replaced by Python's escapes, except those in ``kept``.
    """
    return "".join(
        character
        if character.isprintable() or character in kept
        else ascii(character).strip("'")
        for character in text
    )


class TestbedError(Exception):
    """A failure with its cause and the next step.

    ``brief`` says in one line what happened.  ``details`` is the output of the
    program that failed.  ``resolution`` says what to do or type next.  The
    last two may be empty.  All three are safe for a terminal or a log, even if
    they contain text of an image or a guest.
    """

    __test__ = False  # for pytest: not a test class, despite its name

    def __init__(
        self, brief: str, *, details: str = "", resolution: str = ""
    ) -> None:
        """Store the three parts separately, for callers that print them."""
        self.brief = _message(brief)
        self.details = details
        self.resolution = _message(resolution)
        super().__init__(self.brief)

    @property
    def details(self) -> str:
        """The output of the program that failed; callers can add to it."""
        return self._details

    @details.setter
    def details(self, text: str) -> None:
        self._details = _message(text)

    def __str__(self) -> str:
        """Return the parts that are not empty, on separate lines."""
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


class Restricted(Denied):
    """Incus keeps this user to one project, and does not do this there."""


class DaemonDown(TestbedError):
    """No Incus daemon answers."""


class MemberDown(DaemonDown):
    """The member of the cluster that this is about does not answer."""


class NoMember(TestbedError):
    """No member of the cluster takes new instances, or not yet."""


class NotRunning(TestbedError):
    """The instance is not running."""


class AgentDown(NotRunning):
    """The agent of a virtual machine does not answer, or not yet."""


class Busy(TestbedError):
    """Another operation holds the object."""


class NoSpace(TestbedError):
    """A disk, pool or quota is full.

    ``lacking`` is the number of missing bytes, 0 if not known.
    """

    lacking = 0


class LimitReached(TestbedError):
    """Something is larger than a limit; the resolution names the limit."""


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


class Incomplete(BootFailed):
    """The instance lacks files that its image has."""


class CommandFailed(TestbedError):
    """A program failed for a reason that has no class of its own."""
