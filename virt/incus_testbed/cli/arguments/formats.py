# SPDX-License-Identifier: GPL-3.0-or-later
"""The option --format of commands that show something."""

import argparse

from incus_testbed.cli import output


def add_option(command: argparse.ArgumentParser) -> None:
    """Add the option to a command."""
    command.add_argument(
        "-f",
        "--format",
        choices=output.FORMATS,
        default="table",
        help="a table for people, or a document or list for programs; without"
        " it: table",
    )
