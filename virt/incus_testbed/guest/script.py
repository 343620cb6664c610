# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts of scripts/, which are run in a guest and answer."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

#: Read once, and early: after an upgrade of the package, a process that goes on
#: uses the scripts that its own code was written for.
_TEXT = {
    path.name: path.read_text("utf-8")
    for path in Path(__file__).with_name("scripts").iterdir()
}
#: Runs Perl in hexadecimal: autopkgtest takes the words of a command apart at
#: commas, which a shell script can do without.
_UNPACK = "eval pack q(H*) => shift; die $@"
#: The last line of what a script answers.
_WHOLE = "whole=yes"


def text(name: str) -> str:
    """Return what is in a file of scripts/."""
    return _TEXT[name]


def command(name: str, *arguments: str) -> list[str]:
    """Return the command that runs a script in a guest.

    The text travels as an argument, so that any guest can run it, whether or
    not this project made its image.
    """
    return ["sh", "-c", _code(name), name.removesuffix(".sh"), *arguments]


def logged_in(name: str, *arguments: str) -> list[str]:
    """Return the command that runs such a script, in Perl, after a login."""
    code = f"{_code('login.pl')}\n{_code(name)}"
    return ["perl", "-e", code, _code("login.sh"), *arguments]


def for_autopkgtest(command: Sequence[str]) -> list[str]:
    """Return a command of Perl without a comma in its code."""
    perl, option, code, *words = command
    return [perl, option, _UNPACK, code.encode().hex(), *words]


@cache
def _code(name: str) -> str:
    lines = text(name).splitlines()
    return "\n".join(
        line for line in lines if line and not line.lstrip().startswith("#")
    )


def relayed(wrapped: Sequence[str]) -> list[str]:
    """Return a command whose output ends when it does, whoever keeps it open.

    In containers Incus sees to that by itself.
    """
    return for_autopkgtest(["perl", "-e", _code("relay.pl"), *wrapped])


def question(name: str, *arguments: str, then: str | None = None) -> list[str]:
    """Return the command for a script that answers.

    ``then`` is another that answers too, if not the status.  The last answer
    is that all has been said: incus exec may lose the end.
    """
    shell, option, code, *words = command(name, *arguments)
    if then:
        code = f"({code}\n)\nstatus=$?\n{_code(then)}\nexit $status"
    return [shell, option, f"trap 'echo {_WHOLE}' EXIT\n{code}", *words]


def is_whole(output: str) -> bool:
    """Tell whether all that a question's script has said is there."""
    return output.splitlines()[-1:] == [_WHOLE]


def answers(output: str) -> dict[str, str]:
    """Read the key=value lines that a script printed."""
    return dict(
        line.split("=", 1) for line in output.splitlines() if "=" in line
    )
