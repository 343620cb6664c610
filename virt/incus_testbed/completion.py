# SPDX-License-Identifier: GPL-3.0-or-later
"""What a shell offers to complete a command line with."""

import argparse
import os

from incus_testbed import errors
from incus_testbed.client import Incus
from incus_testbed.image.store import Store


def answer(parser: argparse.ArgumentParser) -> None:
    """Tell a shell that asks what can come next, and end this process.

    Returns where no shell asks.
    """
    if "_ARGCOMPLETE" in os.environ:
        import argcomplete  # noqa: PLC0415 - most starts have no use for it

        argcomplete.autocomplete(parser)


def complete_alias(argument: argparse.Action) -> None:
    """Have an argument completed with the aliases of imported images."""
    argument.completer = _aliases  # type: ignore[attr-defined]


def _aliases(parsed_args: argparse.Namespace, **_: object) -> list[str]:
    incus = Incus(project=parsed_args.project, remote=parsed_args.remote)
    try:
        images = Store(incus).images()
    except errors.TestbedError:
        return []  # a shell that asks has no place for a message
    return [alias for image in images for alias in image.aliases]
