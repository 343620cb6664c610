# SPDX-License-Identifier: GPL-3.0-or-later
"""What can go wrong, in terms a user can act on."""


class TestbedError(Exception):
    """A failure with its cause and the next step.

    ``brief`` says in one line what happened, ``details`` what the program
    underneath said, ``resolution`` what to do or type next.  The last two may
    be empty.
    """

    __test__ = False  # pytest: not a test class, whatever its name

    def __init__(
        self, brief: str, *, details: str = "", resolution: str = ""
    ) -> None:
        """Keep the three parts apart, for callers that print them."""
        super().__init__(brief)
        self.brief = brief
        self.details = details.strip()
        self.resolution = resolution.strip()

    def __str__(self) -> str:
        """Return the parts that are there, a line or more each."""
        return "\n".join(
            part for part in (self.brief, self.details, self.resolution) if part
        )


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
    """A disk, pool or quota is full."""


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
