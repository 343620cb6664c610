# SPDX-License-Identifier: GPL-3.0-or-later
"""The command gc."""

import argparse
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from incus_testbed.cleanup import eviction, garbage, hosts
from incus_testbed.incus.client import Incus


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
