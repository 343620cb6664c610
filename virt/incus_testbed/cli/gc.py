# SPDX-License-Identifier: GPL-3.0-or-later
"""The command gc."""

import argparse
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from incus_testbed.cleanup import eviction, garbage, hosts
from incus_testbed.incus.client import Incus
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


def gc(incus: Incus, arguments: argparse.Namespace) -> int:
    """Run gc; return its exit status."""
    projects = incus.projects() if arguments.all_projects else [incus.project]
    clients = [
        Incus(project=project, remote=incus.remote) for project in projects
    ]
    lost = _host(arguments.host, clients) if arguments.host else ""
    found = [_garbage(client, arguments, lost) for client in clients]
    pieces = [
        {"project": project, "kind": kind, "name": name}
        for project, here in zip(projects, found, strict=True)
        for kind, name in here.pieces
    ]
    if arguments.format == "json":
        print(json.dumps(pieces, indent=2))
        return 0
    verb = "would be removed" if arguments.dry_run else "removed"
    for piece in pieces:
        print(f"{piece['kind']} {piece['name']}: {verb}")
    if arguments.dry_run:
        elsewhere = hosts.together(here.elsewhere for here in found)
        for host, owned in elsewhere.items():
            print(f"host {hosts.label(host)} owns {hosts.owns(owned)}: stays")
    return 0


def _host(host_id: str, clients: Iterable[Incus]) -> str:
    """Return the host that an admin has given up."""
    found = [
        garbage.find(client, thorough=True).elsewhere for client in clients
    ]
    return hosts.resolved(host_id, hosts.together(found))


@dataclass(frozen=True)
class _Found:
    """What gc found in one project, and what stays there."""

    pieces: list[tuple[str, str]]
    elsewhere: Mapping[str, Counter[str]]


def _garbage(incus: Incus, arguments: argparse.Namespace, lost: str) -> _Found:
    """Remove the garbage of one project; in a dry run, only find it."""
    act = garbage.find if arguments.dry_run else garbage.collect
    found = act(incus, lost=lost, thorough=arguments.thorough)
    evicted = eviction.evict(
        incus,
        keep=arguments.keep,
        max_bytes=arguments.max_size,
        dry_run=arguments.dry_run,
    )
    images = [
        ("image", " ".join(image.aliases) or image.fingerprint)
        for image in evicted
    ]
    return _Found([*found.pieces(), *images], found.elsewhere)
