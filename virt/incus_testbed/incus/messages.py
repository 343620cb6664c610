# SPDX-License-Identifier: GPL-3.0-or-later
"""What the incus command meant by what it wrote to standard error.

What no phrase of phrases.py fits is CommandFailed, never "absent".
"""

import re
from collections.abc import Sequence

from incus_testbed import errors
from incus_testbed.incus.exec import program
from incus_testbed.incus.phrases import PHRASES, Phrase
from incus_testbed.process import packages, programs

#: The exit status of a command that could not be run in an instance: of
#: sessions, and of 'incus-testbed run'.
OWN_FAILURE = program.OWN_FAILURE

#: What the incus command's error messages begin with.
_ERROR = "Error: "

#: Of a command line, the words that say what was asked of what.
_SHOWN_WORDS = 4

#: What Incus, and the tar that it runs, say of a program that is not there.
_LACKING = re.compile(
    r'exec: "([\w.+-]{1,40})": executable file not found'
    r"|tar \((?:grand)?child\): ([\w.+-]{1,40}): Cannot exec: No such file",
    re.ASCII,
)


def _lacking(program: str, remote: str) -> Phrase:
    install = f"apt install {packages.of(program)}"
    return Phrase(
        "",
        errors.MissingProgram,
        f"On the server's machine: {install}" if remote else install,
        brief=f"The Incus server {remote} lacks the program {program}"
        if remote
        else f"Incus needs the program {program}, which is not installed",
    )


def error(
    argv: Sequence[str], completed: programs.Completed, *, remote: str = ""
) -> errors.TestbedError:
    """Return the error that a failed incus command stands for.

    ``argv`` is what the user would recognise of the command line.  ``remote``
    is the name of a server that is not on this machine.
    """
    command = " ".join(argv[:_SHOWN_WORDS])
    how = programs.ending(completed.status)
    return of_message(_message(completed.stderr), command, how, remote)


def of_message(
    said: str, command: str, how: str = "failed", remote: str = ""
) -> errors.TestbedError:
    """Return the error that Incus' own words stand for."""
    if found := _LACKING.search(said):
        return _lacking(found[1] or found[2], remote).error(said, command)
    for phrase in PHRASES:
        if re.search(phrase.pattern, said, re.IGNORECASE):
            return phrase.error(said, command, remote)
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
