# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of incus-testbed: commands, options and their help."""

import argparse
import difflib
import math
import re
from typing import Any

from incus_testbed import __version__, completion, host
from incus_testbed.diagnosis import OWN_FAILURE

_Commands = argparse._SubParsersAction  # noqa: SLF001 - argparse's only name


class _Parser(argparse.ArgumentParser):
    """A parser whose complaint of an unknown word names the nearest."""

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """Do as Python 3.14 does when it is asked to suggest."""
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
    """Return the parser of a program that uses Incus, and of its commands."""
    result: argparse.ArgumentParser = _Parser(
        prog=name, description=description
    )
    result.add_argument("--version", action="version", version=__version__)
    result.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=0,
        help="say what is done; twice: every command that is run",
    )
    result.add_argument("--remote", help="see: incus remote list")
    result.add_argument("--project", help="see: incus project list")
    commands = result.add_subparsers(
        title="commands", metavar="COMMAND", required=True
    )
    return result, commands


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    result, commands = program(
        "incus-testbed", "Throw-away Debian testbeds in Incus."
    )
    result.set_defaults(failure_status=1)
    _add_image_commands(commands)
    _add_instance_commands(commands)
    _add_machine_commands(commands)
    return result


def _add_image_commands(
    commands: "_Commands[argparse.ArgumentParser]",
) -> None:
    command = commands.add_parser(
        "import",
        help="make an image of a system tarball or disk",
        description="Make an Incus image of a Debian system tarball, for"
        " containers, or of a disk (raw or qcow2), for virtual machines. What"
        " is not given is read from the file.",
    )
    command.set_defaults(function="import")
    command.add_argument(
        "file", metavar="FILE", help="plain, gz, bz2, xz or zst; - is stdin"
    )
    command.add_argument(
        "--alias", required=True, help="name of the image: artifact/ID"
    )
    command.add_argument(
        "--artifact-id", metavar="ID", help="its number in Debusine"
    )
    command.add_argument("--codename", help="such as trixie")
    command.add_argument("--vendor", help="such as debian")
    command.add_argument("--architecture", help="such as amd64")
    command.add_argument("--description", help="shown by 'incus image list'")
    command.add_argument(
        "--generator",
        metavar="FILE",
        help="put in this systemd generator instead of our own",
    )

    command = commands.add_parser("images", help="list the imported images")
    command.set_defaults(function="images")
    command.add_argument(
        "-f", "--format", choices=("table", "json"), default="table"
    )

    command = commands.add_parser("remove", help="remove an imported image")
    command.set_defaults(function="remove")
    completion.complete_alias(command.add_argument("alias", metavar="ALIAS"))


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
    command.set_defaults(function="run")
    _add_launch_arguments(command)
    command.add_argument(
        "command",
        metavar="[--] COMMAND ...",
        nargs=argparse.REMAINDER,
        help="options after it are its own",
    )

    command = commands.add_parser(
        "shell", help="open a shell in a throw-away instance"
    )
    command.set_defaults(function="shell")
    _add_launch_arguments(command)

    command = commands.add_parser(
        "gc",
        help="remove what processes that are gone have left",
        description="Remove what a process of this machine has left that is"
        " gone: instances, unfinished images, claims on images."
        " Safe at any time.",
    )
    command.set_defaults(function="gc")
    command.add_argument(
        "--dry-run", action="store_true", help="say it, don't do it"
    )
    command.add_argument(
        "--all-projects",
        action="store_true",
        help="in every project, not only the current one",
    )
    command.add_argument(
        "--keep",
        metavar="N",
        type=_count,
        default=math.inf,
        help="of images that can be made again, remove those not used for"
        " longest until N are left",
    )
    command.add_argument(
        "--max-size",
        metavar="SIZE",
        type=_size,
        default=math.inf,
        help="or until they are no larger in sum, unpacked as well as in"
        " Incus' store; such as 20GiB",
    )
    command.add_argument(
        "-f", "--format", choices=("text", "json"), default="text"
    )


def _count(text: str) -> int:
    if not re.fullmatch(r"\d+", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number")
    return int(text)


def _size(text: str) -> int:
    """Read a size, in bytes or with one of Incus's own suffixes."""
    found = re.fullmatch(r"(\d+)(?:([kMGT])(i?)B)?", text, re.ASCII)
    if not found:
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size such as 20GiB or 500MB"
        )
    number, prefix, binary = found.groups()
    factor = 1024 if binary else 1000
    return int(number) * int(factor ** " kMGT".index(prefix or " "))


def _add_launch_arguments(command: argparse.ArgumentParser) -> None:
    command.set_defaults(failure_status=OWN_FAILURE)
    command.add_argument(
        "--launch-argument",
        metavar="ARG",
        action="append",
        default=[],
        help="hand this to 'incus launch'; may be repeated",
    )
    completion.complete_alias(command.add_argument("alias", metavar="ALIAS"))


def _add_machine_commands(
    commands: "_Commands[argparse.ArgumentParser]",
) -> None:
    setup = commands.add_parser(
        "setup",
        help="make the network, storage pool and profile",
        description="Make what is missing for testbeds: the network, the"
        " storage pool and the profile; let the worker in, where there is one,"
        " by adding its user to the group incus-admin. Can be run again at any"
        " time.",
    )
    setup.set_defaults(function="setup")
    setup.add_argument(
        "--dry-run", action="store_true", help="print the commands only"
    )
    doctor = commands.add_parser(
        "doctor",
        help="check this machine; changes nothing",
        description="Check what containers and virtual machines need, and what"
        " an admin should tidy, and say how to mend it. The exit status is 1"
        " if containers can't run.",
    )
    doctor.set_defaults(function="doctor")
    usual = host.Names()
    for command in (setup, doctor):
        for name in ("network", "pool", "profile"):
            command.add_argument(
                f"--{name}",
                metavar="NAME",
                help=f"else the one in use, or {getattr(usual, name)}",
            )
