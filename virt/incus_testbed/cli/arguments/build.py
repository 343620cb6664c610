# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of build."""

import argparse
import re

from incus_testbed.bootstrap.variants import VARIANTS

DESCRIPTION = (
    "Make an image of a Debian suite with mmdebstrap, for containers or virtual"
    " machines. An image of the same alias is replaced when the new one is"
    " complete."
)


def add_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add the command."""
    add_arguments(
        commands.add_parser(
            "build",
            help="make an image of a Debian suite",
            description=DESCRIPTION,
        )
    )


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add what can be asked of the image."""
    command.add_argument(
        "suite",
        metavar="SUITE",
        help="such as trixie, sid or trixie-backports",
    )
    command.add_argument(
        "--mirror",
        metavar="URL",
        help="take Debian from here alone; without it, from apt's mirror and"
        " its updates",
    )
    command.add_argument(
        "--components",
        metavar="NAME,...",
        type=_words,
        help="such as main,contrib; without it, those that apt uses",
    )
    command.add_argument(
        "--include",
        metavar="PACKAGE,...",
        type=_words,
        action="extend",
        default=[],
        help="packages to install too; can be given several times",
    )
    command.add_argument(
        "--variant",
        choices=VARIANTS,
        default=VARIANTS[0],
        help="the packages to begin with, as in mmdebstrap(1); without it:"
        f" {VARIANTS[0]}",
    )
    command.add_argument(
        "--sources",
        action="store_true",
        help="source packages too, so that autopkgtest finds packages by name;"
        " without it, if this machine's apt uses them",
    )
    command.add_argument(
        "--arch",
        metavar="ARCH",
        help="such as i386; without it, this machine's",
    )
    command.add_argument(
        "--vm",
        action="store_true",
        help="make a disk for virtual machines; on amd64 and arm64",
    )
    command.add_argument(
        "--alias",
        help="without it: autopkgtest/debian/SUITE/ARCH, and /vm with --vm",
    )


def _words(text: str) -> list[str]:
    return [word for word in re.split(r"[,\s]+", text) if word]
