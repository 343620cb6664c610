# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of gc."""

import argparse
import math
import re

from incus_testbed.ownership.owner import HOST_ID_LENGTH


def add_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add gc to a command line."""
    command = commands.add_parser(
        "gc",
        help="remove what ended processes have left",
        description="Remove what ended processes of this machine have left:"
        " instances, unfinished images, claims on images, locks. Safe at any"
        " time. What other machines own stays, unless --host gives them up.",
    )
    command.add_argument(
        "--dry-run", action="store_true", help="only say what would be removed"
    )
    command.add_argument(
        "--all-projects",
        action="store_true",
        help="in every project, not only the current one",
    )
    command.add_argument(
        "--thorough",
        action="store_true",
        help="look at every image and instance, also where there are many: this"
        " takes 1 ms for each image and 0.25 ms for each instance, and finds"
        " what was left with a name that a user gave",
    )
    command.add_argument(
        "--host",
        metavar="ID",
        type=_host_id,
        help="also remove all that this machine owns, because you know that"
        " nothing runs on it any more; 'incus-testbed status' has the ids. If"
        " it is the machine where you type this: what it has left before its"
        " last boot, because you know that no other machine is a copy of it",
    )
    command.add_argument(
        "--keep",
        metavar="N",
        type=_count,
        default=math.inf,
        help="also remove images that can be made again, until N of them are"
        " left; the longest unused ones go first",
    )
    command.add_argument(
        "--max-size",
        metavar="SIZE",
        type=_size,
        default=math.inf,
        help="also remove such images until the others together take no more"
        " than SIZE, unpacked and in Incus' store; such as 20GiB",
    )
    command.add_argument(
        "-f",
        "--format",
        choices=("text", "json"),
        default="text",
        help="text for people, or JSON; without it: text",
    )


def _count(text: str) -> int:
    if not re.fullmatch(r"\d+", text, re.ASCII):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _host_id(text: str) -> str:
    if not re.fullmatch(rf"[0-9a-f]{{{HOST_ID_LENGTH},32}}", text):
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a host's id, as 'incus-testbed status' has it"
        )
    return text


def _size(text: str) -> int:
    """Read a size, in bytes or with one of Incus' suffixes."""
    found = re.fullmatch(r"(\d+)(?:([kMGT])(i?)B)?", text, re.ASCII)
    if not found:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size such as 20GiB or 500MB"
        )
    number, prefix, binary = found.groups()
    factor = 1024 if binary else 1000
    return int(number) * int(factor ** " kMGT".index(prefix or " "))
