# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of debusine-incus: commands, options and their help."""

import argparse

from incus_testbed.cli.arguments import program

PROGRAM = "debusine-incus"


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    result, commands = program(
        PROGRAM, "Debusine's testbeds on your own machine."
    )
    command = commands.add_parser(
        "pull",
        help="get the image of a Debusine task",
        description="Download a system image from a Debusine server into"
        " Incus, under the alias artifact/ID. The server and your token come"
        " from the configuration of debusine-client.",
    )
    image = command.add_mutually_exclusive_group(required=True)
    image.add_argument(
        "artifact",
        metavar="ARTIFACT",
        type=int,
        nargs="?",
        help="number of a debian:system-tarball or debian:system-image"
        " artifact",
    )
    image.add_argument(
        "--work-request",
        metavar="ID",
        type=int,
        help="get the environment that this work request ran in",
    )
    command.add_argument(
        "--server",
        metavar="NAME",
        help="a server in the configuration of debusine-client, by name or as"
        " FQDN/SCOPE, as in 'debusine --server'",
    )
    command.add_argument(
        "--workspace",
        metavar="NAME",
        help="look for the artifact in this workspace",
    )
    return result
