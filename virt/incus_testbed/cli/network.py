# SPDX-License-Identifier: GPL-3.0-or-later
"""The option --network of commands that launch an instance."""

import argparse

#: Its only value.
_NONE = "none"


def add_option(command: argparse.ArgumentParser) -> None:
    """Add the option to a command."""
    command.add_argument(
        "--network",
        choices=(_NONE,),
        help="none: without a network card, so that it reaches nothing",
    )


def is_wanted(arguments: argparse.Namespace) -> bool:
    """Tell whether the instance shall have a network."""
    return bool(arguments.network != _NONE)
