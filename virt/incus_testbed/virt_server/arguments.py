# SPDX-License-Identifier: GPL-3.0-or-later
"""The virt server's command line: the options of autopkgtest-virt-incus."""

import argparse
from collections.abc import Sequence

from incus_testbed.cli import max_age, network


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line.

    Our own options may also follow the image: incus launch has none of that
    name.
    """
    usual = parser()
    arguments = usual.parse_args(argv)
    ours = argparse.ArgumentParser(
        prog=usual.prog, usage=usual.usage, add_help=False, allow_abbrev=False
    )
    _add_own(ours)
    found, arguments.launch_arguments = ours.parse_known_args(
        arguments.launch_arguments
    )
    for name, value in vars(found).items():
        if value is not None:
            setattr(arguments, name, value)
    return arguments


def _add_own(parser: argparse.ArgumentParser) -> None:
    """Add the options that incus launch must not get."""
    max_age.add_option(parser)
    parser.add_argument(
        "--warm",
        action="store_true",
        default=None,
        help="bring the testbed up to date once; each test then starts from"
        " that state",
    )
    parser.add_argument(
        "--warm-commands",
        metavar="COMMANDS",
        action="append",
        help="run these shell commands, or those in this file, as root, once;"
        " each test then starts from that state; can be given several times",
    )


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    result = argparse.ArgumentParser(
        prog="autopkgtest-virt-incus-testbed",
        description="autopkgtest virtualisation server on Incus",
        epilog="Use it as: autopkgtest PACKAGE -- incus-testbed IMAGE",
    )
    result.add_argument(
        "-d",
        "--debug",
        action="store_true",
        help="show debug messages, and the console while the testbed boots",
    )
    result.add_argument(
        "-r", "--remote", help="use this remote (see: incus remote list)"
    )
    result.add_argument(
        "-p", "--project", help="use this project (see: incus project list)"
    )
    result.add_argument("--vm", action="store_true", help=argparse.SUPPRESS)
    result.add_argument("--name", help="name of the instance")
    result.add_argument(
        "--delete-existing",
        action="store_true",
        help="with --name: first remove an instance that has this name",
    )
    network.add_option(result)
    _add_own(result)
    result.add_argument(
        "image",
        help="an image's alias, such as artifact/42, or the path of a system"
        " tarball or disk, which is imported first",
    )
    result.add_argument(
        "launch_arguments",
        metavar="...",
        nargs=argparse.REMAINDER,
        help="what else follows the image goes to 'incus launch'",
    )
    return result
