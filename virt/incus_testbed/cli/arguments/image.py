# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of commands about images, but for build."""

from typing import TYPE_CHECKING

from incus_testbed.cli import completion, max_age
from incus_testbed.cli.arguments import formats

if TYPE_CHECKING:
    import argparse


def add_commands(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add import, refresh, images and remove to a command line."""
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

    command = commands.add_parser(
        "refresh",
        help="bring an image up to date",
        description="Bring an image for containers up to date with its own"
        " apt: update, dist-upgrade, autoremove and clean, in an instance. The"
        " result replaces the image when it is complete. If something fails,"
        " nothing changes.",
    )
    max_age.add_option(
        command, "only if it is older than AGE, such as 1d, 12h or 30m"
    )
    completion.add_alias(command)

    command = commands.add_parser("images", help="list the imported images")
    formats.add_option(command)

    command = commands.add_parser("remove", help="remove an imported image")
    completion.add_alias(command)
