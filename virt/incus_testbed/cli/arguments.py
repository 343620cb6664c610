# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of incus-testbed: commands, options and their help."""

import argparse
import difflib
from typing import Any

from incus_testbed import __version__
from incus_testbed.cli import (
    build,
    completion,
    gc,
    machine,
    max_age,
    network,
    output,
    refresh,
)
from incus_testbed.incus.messages import OWN_FAILURE

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
    _add_image_commands(commands)
    _add_instance_commands(commands)
    machine.add_commands(commands)
    return result


def builder() -> argparse.ArgumentParser:
    """Return the parser of the command that does what build does."""
    result = _program("autopkgtest-build-incus-testbed", build.DESCRIPTION)
    result.set_defaults(failure_status=1, function="build")
    build.add_arguments(result)
    return result


def _add_image_commands(
    commands: "_Commands[argparse.ArgumentParser]",
) -> None:
    build.add_command(commands)

    command = commands.add_parser(
        "import",
        help="make an image of a system tarball or disk",
        description="Make an Incus image of a Debian system tarball, for"
        " containers, or of a disk (raw or qcow2), for virtual machines."
        " Values that are not given as options are read from the file.",
    )
    command.add_argument(
        "file",
        metavar="FILE",
        help="the tarball or disk: plain, gz, bz2, xz or zst; - is stdin",
    )
    command.add_argument(
        "--alias", required=True, help="name of the image, such as artifact/ID"
    )
    command.add_argument(
        "--artifact-id", metavar="ID", help="number of the artifact in Debusine"
    )
    command.add_argument("--codename", help="such as trixie")
    command.add_argument("--vendor", help="such as debian")
    command.add_argument("--architecture", help="such as amd64")
    command.add_argument("--description", help="shown by 'incus image list'")
    command.add_argument(
        "--generator",
        metavar="FILE",
        help="add this systemd generator instead of our own",
    )

    refresh.add_command(commands)

    command = commands.add_parser("images", help="list the imported images")
    _add_format(command)

    command = commands.add_parser("remove", help="remove an imported image")
    completion.add_alias(command)


def _add_format(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-f",
        "--format",
        choices=output.FORMATS,
        default="table",
        help="a table for people, or a document or list for programs; without"
        " it: table",
    )


def _add_instance_commands(
    commands: "_Commands[argparse.ArgumentParser]",
) -> None:
    command = commands.add_parser(
        "run",
        help="run a command in a throw-away instance",
        description="Run a command, as root, in an instance that is removed"
        " afterwards. The exit status is the command's, or"
        f" {OWN_FAILURE} if it could not be run.",
    )
    _add_launch_arguments(command)
    command.add_argument(
        "command",
        metavar="[--] COMMAND ...",
        nargs=argparse.REMAINDER,
        help="the command and its arguments",
    )

    command = commands.add_parser(
        "shell", help="open a shell in a throw-away instance"
    )
    _add_launch_arguments(command)

    command = commands.add_parser(
        "status",
        help="show the server, members, pool, images, testbeds and garbage",
        description="Show what there is in this project: the server and its"
        " storage pool, the members of a cluster, the imported images, the"
        " testbeds with their owners, and what 'gc' would remove. Where there"
        " is much, a page of it. Changes nothing.",
    )
    _add_format(command)
    command.add_argument(
        "--watch",
        action="store_true",
        help="show it again every two seconds, until Ctrl-C",
    )
    command.add_argument(
        "--all",
        action="store_true",
        help="list everything where there is much: more than 50 images or 200"
        " instances; takes 1 ms for each image and 0.25 ms for each instance",
    )

    gc.add_command(commands)


def _add_launch_arguments(command: argparse.ArgumentParser) -> None:
    command.set_defaults(failure_status=OWN_FAILURE)
    network.add_option(command)
    max_age.add_option(command)
    command.add_argument(
        "--keep",
        action="store_true",
        help="keep the instance, also if it does not boot; then nothing but"
        " you removes it",
    )
    command.add_argument(
        "--launch-argument",
        metavar="ARG",
        action="append",
        default=[],
        help="pass this to 'incus launch'; can be given several times",
    )
    completion.add_alias(command)
