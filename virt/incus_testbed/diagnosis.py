# SPDX-License-Identifier: GPL-3.0-or-later
"""What the incus command meant by what it wrote to standard error.

The phrases are those of Incus 6.0 and 7.0, seen from the real programs.  A
phrase that is not known here is CommandFailed, never "absent".
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from incus_testbed import errors, process
from incus_testbed.session import api, program

#: The exit status of a command that could not be run in an instance: of
#: sessions, and of 'incus-testbed run'.
OWN_FAILURE = program.OWN_FAILURE

#: What error messages begin with: of the incus command, and of sessions.
_ERROR = "Error: "
_MARKS = (_ERROR, "incus-testbed: ")

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
    _Phrase(
        r"daemon doesn't appear to be started|connection refused"
        r"|dial unix [^\n]*no such file|unable to connect to: ",
        errors.DaemonDown,
        f"Start it: systemctl start incus. {_DOCTOR}",
        brief="No Incus daemon answers",
    ),
    _Phrase(
        r"Daemon is shutting down|unexpected EOF|connection reset by peer"
        r"|: EOF$",
        errors.DaemonDown,
        f"Look why: journalctl --unit=incus. {_DOCTOR}",
        brief="The Incus daemon has gone away",
    ),
    _Phrase(
        r"don't have the needed permissions|not authorized|Forbidden"
        r"|permission denied",
        errors.Denied,
        "Run as root, or have an admin add you to the group incus-admin"
        " (adduser USER incus-admin) and log in again.",
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
        r"already exists|UNIQUE constraint failed|already in use"
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
    argv: Sequence[str], completed: process.Completed
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
    said = _message(completed.stderr)
    if said.startswith(api.TIMED_OUT):
        return no_answer(said.removeprefix(api.TIMED_OUT), command)
    return of_message(said, command, how)


def of_message(
    said: str, command: str, how: str = "failed"
) -> errors.TestbedError:
    """Return the error that Incus' own words stand for."""
    for phrase in _PHRASES:
        if re.search(phrase.pattern, said, re.IGNORECASE):
            first = f"incus: {said.splitlines()[0]}"
            return phrase.kind(
                phrase.brief or first,
                details=f"{first if phrase.brief else ''}\n(from '{command}')",
                resolution=phrase.resolution,
            )
    return errors.CommandFailed(
        f"'{command}' {how}", details=said or "It said nothing."
    )


def no_answer(said: str, command: str) -> errors.TimedOut:
    """Return the error for a daemon that does not answer in time."""
    return errors.TimedOut(
        "The Incus daemon does not answer",
        details=f"{said}\n(from '{command}')",
        resolution="It is overloaded, or hangs. Look why:"
        " journalctl --unit=incus",
    )


def is_own_failure(completed: process.Completed) -> bool:
    """Tell whether a command in an instance, run to its end, could not be run.

    incus exec has no status for that: 1 may as well be the command's.
    """
    if completed.argv[0] == "incus":
        return completed.status == 1 and _ERROR in completed.stderr
    return completed.status == OWN_FAILURE


def _message(stderr: str) -> str:
    """Return the error alone: no progress bars, no word in front of it."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", stderr)]
    start = next(
        (n for n, line in enumerate(lines) if line.startswith(_MARKS)), 0
    )
    said = "\n".join(filter(None, lines[start:]))
    for mark in _MARKS:
        said = said.removeprefix(mark)
    return said
