# SPDX-License-Identifier: GPL-3.0-or-later
"""What the incus command meant by what it wrote to standard error.

The phrases are those of Incus 6.0 and 7.0, seen from the real programs.  A
phrase that is not known here is CommandFailed, never "absent".
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from incus_testbed import errors
from incus_testbed.incus.exec import api, program
from incus_testbed.process import programs

#: The exit status of a command that could not be run in an instance: of
#: sessions, and of 'incus-testbed run'.
OWN_FAILURE = program.OWN_FAILURE

#: What the incus command's error messages begin with.
_ERROR = "Error: "

#: Of a command line, the words that say what was asked of what.
_SHOWN_WORDS = 4

_DOCTOR = "'incus-testbed doctor' says what this machine lacks."
_SETUP = "Make what is missing: incus-testbed setup"


@dataclass(frozen=True)
class _Phrase:
    """What a message means; ``brief`` says it where Incus is long-winded."""

    pattern: str
    kind: type[errors.TestbedError]
    resolution: str = ""
    brief: str = ""

    def error(self, said: str, asked: str) -> errors.TestbedError:
        """Return the error for what was said of what was asked."""
        first = f"incus: {said.splitlines()[0]}"
        return self.kind(
            self.brief or first,
            details=f"{first if self.brief else ''}\n(from '{asked}')",
            resolution=self.resolution,
        )


DOWN = _Phrase(
    r"daemon doesn't appear to be started|connection refused"
    r"|dial unix [^\n]*no such file|unable to connect to: ",
    errors.DaemonDown,
    f"Start it: systemctl start incus. {_DOCTOR}",
    brief="No Incus daemon answers",
)
#: Said by the member that this client asks, of the one that it should ask.  The
#: client itself would have failed at its first question, of /1.0.
AWAY = _Phrase(
    r"Missing event connection with target cluster member"
    r'|https://[^"]*/1\.0/[^"]*": Unable to connect to: ',
    errors.MemberDown,
    "'incus cluster list' names it. Testbeds on it come back with it, and"
    " 'incus-testbed gc' then removes those that have no owner.",
    brief="A member of the cluster does not answer",
)
_EVACUATED = _Phrase(
    r"Cluster member is evacuated",
    errors.Unsupported,
    "Choose another member, or have it take instances again: incus cluster"
    " restore NAME",
)
GONE = _Phrase(
    r"Daemon is shutting down|unexpected EOF|connection reset by peer|: EOF$",
    errors.DaemonDown,
    f"Look why: journalctl --unit=incus. {_DOCTOR}",
    brief="The Incus daemon has gone away",
)
TURNED_AWAY = _Phrase(
    r"(?!)",  # incus-user closes the connection without a word
    errors.Denied,
    "If Incus runs, have an admin give you a restricted project"
    " (incus-testbed setup --restricted USER). Or look why:"
    " journalctl --unit=incus-user --unit=incus",
    brief="incus-user turns you away: it has no project for you, or no Incus",
)
RESTRICTED = _Phrase(
    r"Certificate is restricted|permissions? for project"
    r"|not allowed in project|(is|are) forbidden",
    errors.Restricted,
    "You may use a restricted project only, and what it allows."
    " 'incus-testbed doctor' names it.",
)
DENIED = _Phrase(
    r"don't have the needed permissions|not authorized|Forbidden"
    r"|permission denied",
    errors.Denied,
    "Run as root, or have an admin give you a restricted project"
    " (incus-testbed setup --restricted USER) and log in again.",
)

#: The first that matches wins, so the narrow ones stand first.
_PHRASES = (
    _Phrase(
        r"no space left on device|disk quota exceeded|not enough space",
        errors.NoSpace,
        "Free space: 'incus-testbed gc --keep 0' removes what nobody owns or"
        " uses, 'incus-testbed images' lists the rest.",
        brief="There is no space left for this in Incus",
    ),
    _Phrase(
        r"Unpack failed",
        errors.BadImage,
        "Remove it and import it again: incus-testbed remove ALIAS",
        brief="Incus can't unpack the image: it is damaged",
    ),
    AWAY,
    _EVACUATED,
    DOWN,
    GONE,
    RESTRICTED,
    DENIED,
    # Incus asks for each network card of the machine, one after the other, and
    # gives up if one goes away meanwhile, because another instance has stopped.
    _Phrase(
        r"Failed to run: ip [^\n]*Device [^\n]* does not exist",
        errors.Busy,
        "Try it again.",
        brief="Incus was disturbed: a network card went away meanwhile",
    ),
    _Phrase(
        r"(profile|network|storage pool)[^\n]*(not found|doesn't exist)"
        r"|No storage pool found",
        errors.NotFound,
        _SETUP,
    ),
    _Phrase(
        r"No root device could be found",
        errors.NotFound,
        "The image's profiles give it no disk. Launch it with the profile of"
        f" testbeds, --profile=debusine. {_SETUP}",
    ),
    _Phrase(
        r"remote [^\n]* doesn't exist",
        errors.NotFound,
        "See: incus remote list",
    ),
    _Phrase(r"Project not found", errors.NotFound, "See: incus project list"),
    _Phrase(
        r"Image [^\n]*not found|Image alias not found|Alias [^\n]*not found",
        errors.NotFound,
        "'incus-testbed images' lists the images there are.",
    ),
    _Phrase(
        r"not found|does not exist|doesn't exist|No such file or directory"
        r"|no such file or directory|Not Found",
        errors.NotFound,
    ),
    _Phrase(
        r"already exists|already defined on member|already in use"
        r"|UNIQUE constraint failed"
        r"|Alias already exists",
        errors.AlreadyExists,
    ),
    _Phrase(
        r"VM agent isn't currently running|Failed to connect to (the )?agent"
        + "".join(f"|{message}" for message in api.TOO_SLOW),
        errors.AgentDown,
    ),
    _Phrase(
        rf"is not running|already stopped|isn't running|{api.NOT_ATTACHED}",
        errors.NotRunning,
    ),
    _Phrase(
        r"is busy|busy running|currently being|Matching .* operation",
        errors.Busy,
    ),
    _Phrase(
        r"isn't supported|not supported|requirement[^\n]*not met"
        r"|doesn't support|missing the required|architecture isn't",
        errors.Unsupported,
        _DOCTOR,
    ),
)


def error(
    argv: Sequence[str], completed: programs.Completed
) -> errors.TestbedError:
    """Return the error that a failed incus command stands for.

    ``argv`` is what the user would recognise of the command line.
    """
    how = (
        f"died of signal {-completed.status}"
        if completed.status < 0
        else f"failed with status {completed.status}"
    )
    command = " ".join(argv[:_SHOWN_WORDS])
    return of_message(_message(completed.stderr), command, how)


def of_message(
    said: str, command: str, how: str = "failed"
) -> errors.TestbedError:
    """Return the error that Incus' own words stand for."""
    for phrase in _PHRASES:
        if re.search(phrase.pattern, said, re.IGNORECASE):
            return phrase.error(said, command)
    return errors.CommandFailed(
        f"'{command}' {how}", details=said or "It said nothing."
    )


def is_own_failure(completed: programs.Completed) -> bool:
    """Tell whether incus exec could not run a command.

    It has no status for that: 1 may as well be the command's.
    """
    return completed.status == 1 and _ERROR in completed.stderr


def _message(stderr: str) -> str:
    """Return the error alone: no progress bars, no word in front of it."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", stderr)]
    start = next(
        (n for n, line in enumerate(lines) if line.startswith(_ERROR)), 0
    )
    return "\n".join(filter(None, lines[start:])).removeprefix(_ERROR)
