# SPDX-License-Identifier: GPL-3.0-or-later
"""Make commands that run the scripts of scripts/ in a guest."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

#: These are read once, at start-up: when the package is upgraded, a running
#: process keeps using the scripts that belong to its own code.
_TEXT = {
    path.name: path.read_text("utf-8")
    for path in Path(__file__).with_name("scripts").iterdir()
}
#: Runs Perl code that is given in hexadecimal, which has no commas: autopkgtest
#: splits a command at commas.  Shell scripts can do without them.
_UNPACK = "eval pack q(H*) => shift; die $@"
#: The last line of a script's answer.
_WHOLE = "whole=yes"


def text(name: str) -> str:
    """Return the content of a file of scripts/."""
    return _TEXT[name]


def command(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a script in a guest.

    The script is passed as an argument, so that it also runs in guests whose
    image this project did not make.
    """
    return ["sh", "-c", _code(name), name.removesuffix(".sh"), *arguments]


def logged_in(name: str, *arguments: str, attended: bool = False) -> list[str]:
    """Return the command that runs a Perl script after a login.

    ``attended``: exec.pl does not end before Incus has the command's output.
    """
    parts = ["login.pl", "drain.pl", *["attend.pl"] * attended, name]
    code = "\n".join(map(_code, parts))
    return ["perl", "-e", code, _code("login.sh"), *arguments]


def for_autopkgtest(command: Sequence[str]) -> list[str]:
    """Return the same Perl command without a comma in its code."""
    perl, option, code, *words = command
    return [perl, option, _UNPACK, code.encode().hex(), *words]


@cache
def _code(name: str) -> str:
    lines = text(name).splitlines()
    return "\n".join(
        line for line in lines if line and not line.lstrip().startswith("#")
    )


def relayed(wrapped: Sequence[str]) -> list[str]:
    """Return a command whose output ends when the command ends.

    A background process that keeps the output open does not delay that end.
    In containers Incus itself ensures this.
    """
    return for_autopkgtest(["perl", "-e", _code("relay.pl"), *wrapped])


def question(name: str, *arguments: str, then: str | None = None) -> list[str]:
    """Return the command for a script that prints answers.

    ``then`` is a second script that also prints answers; the exit status is
    that of the first.  The last line tells that the answer is complete,
    because the end of the output may be lost, see drain.pl; by incus exec it
    often is.
    """
    shell, option, code, *words = command(name, *arguments)
    if then:
        code = f"({code}\n)\nstatus=$?\n{_code(then)}\nexit $status"
    return [shell, option, f"trap 'echo {_WHOLE}' EXIT\n{code}", *words]


def is_whole(output: str) -> bool:
    """Tell whether the output of a question's script is complete."""
    return output.splitlines()[-1:] == [_WHOLE]


def answers(output: str) -> dict[str, str]:
    """Read the key=value lines that a script printed."""
    return dict(
        line.split("=", 1) for line in output.splitlines() if "=" in line
    )
