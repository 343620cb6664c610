# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of commands about instances, but for gc."""

import argparse

from incus_testbed.cli import completion, max_age, network
from incus_testbed.cli.arguments import formats
from incus_testbed.incus.messages import OWN_FAILURE


def add_commands(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add run, shell and status to a command line."""
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
    formats.add_option(command)
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
