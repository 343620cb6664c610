# SPDX-License-Identifier: GPL-3.0-or-later
"""Complete a command line for the shell."""

import argparse
import os

from incus_testbed import errors
from incus_testbed.cli import place
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import CLAIM


def answer(parser: argparse.ArgumentParser) -> None:
    """If a shell asks for completions, print them and end this process.

    Otherwise return.
    """
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete  # noqa: PLC0415 - most runs do not need it

        argcomplete.autocomplete(parser)


def add_alias(command: argparse.ArgumentParser) -> None:
    """Add the alias of an image, which shells can complete."""
    argument = command.add_argument(
        "alias",
        metavar="ALIAS",
        help="name of the image: see 'images'; farm:NAME is one of the remote"
        " farm",
    )
    argument.completer = _aliases  # type: ignore[attr-defined]


def _aliases(
    parsed_args: argparse.Namespace, prefix: str = "", **_: object
) -> list[str]:
    remote, _alias = place.split(prefix)
    incus = Incus(
        project=parsed_args.project, remote=remote or parsed_args.remote
    )
    try:
        names = incus.alias_names()
    except errors.TestbedError:
        return []  # a completion can't show a message
    front = f"{remote}:" if remote else ""
    return [front + name for name in names if not name.startswith(CLAIM)]
