# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of incus-testbed: commands, options and their help.

What the commands do is in other modules, which take longer to import.
"""

import argparse
import difflib
from typing import Any

from incus_testbed import __version__
from incus_testbed.cli.arguments import build, gc, image, instance, machine

_Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse's only name


class _Parser(argparse.ArgumentParser):
    """A parser that suggests a similar word for an unknown one."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Suggest the nearest choice, as Python 3.14 can do."""
        if action.choices is None or value in action.choices:
            return
        words = [str(word) for word in action.choices]
        near = difflib.get_close_matches(str(value), words, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise argparse.ArgumentError(
            action, f"{value!r} is not one of {', '.join(words)}{hint}"
        )


def program(
    name: str, description: str
) -> tuple[argparse.ArgumentParser, "_Commands[argparse.ArgumentParser]"]:
    """Return the parser of a program that uses Incus, and of its commands.

    The name of the command is in ``function``.
    """
    result = _program(name, description)
    commands = result.add_subparsers(
        title="commands", metavar="COMMAND", dest="function", required=True
    )
    return result, commands


def _program(name: str, description: str) -> argparse.ArgumentParser:
    """Return the parser of a program that uses Incus, and has no commands."""
    result: argparse.ArgumentParser = _Parser(
        prog=name, description=description
    )
    result.add_argument("--version", action="version", version=__version__)
    result.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="say what is done, and show what a guest writes to its console"
        " while it boots; given twice: show every command that is run",
    )
    result.add_argument(
        "-q",
        "--quiet",
        action="store_const",
        const=-1,
        dest="verbose",
        help="print only results, and errors",
    )
    result.add_argument("--remote", help="see: incus remote list")
    result.add_argument("--project", help="see: incus project list")
    return result


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    result, commands = program(
        "incus-testbed", "Throw-away Debian testbeds in Incus."
    )
    result.set_defaults(failure_status=1)
    build.add_command(commands)
    image.add_commands(commands)
    instance.add_commands(commands)
    gc.add_command(commands)
    machine.add_commands(commands)
    return result


def builder() -> argparse.ArgumentParser:
    """Return the parser of the command that does what build does."""
    result = _program("autopkgtest-build-incus-testbed", build.DESCRIPTION)
    result.set_defaults(failure_status=1, function="build")
    build.add_arguments(result)
    return result
