# SPDX-License-Identifier: GPL-3.0-or-later
"""The virt server's command line: the options of autopkgtest-virt-incus."""

import argparse

from incus_testbed.cli import network


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
    result.add_argument(
        "image",
        help="an image's alias, such as artifact/42, or the path of a system"
        " tarball or disk, which is imported first",
    )
    result.add_argument(
        "launch_arguments",
        metavar="...",
        nargs=argparse.REMAINDER,
        help="everything after the image goes to 'incus launch'",
    )
    return result
