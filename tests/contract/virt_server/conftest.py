# SPDX-License-Identifier: GPL-3.0-or-later
"""Servers to talk to, and a look at what they have left."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from incus_testbed.cleanup import garbage
from incus_testbed.incus.client import Incus

from .server import LIMIT, Server

#: Starts a server with these arguments; an image, for one.
Start = Callable[..., Server]


def names(incus: Incus) -> set[str]:
    """Return the names of all instances."""
    return {record.name for record in incus.instances()}


def wait_until_gone(incus: Incus, kept: set[str]) -> None:
    """Wait until there is no other instance than these."""
    deadline = time.monotonic() + LIMIT
    while left := names(incus) - kept:
        assert time.monotonic() < deadline, left
        time.sleep(0.1)


def _starting() -> Iterator[Start]:
    servers: list[Server] = []

    def start(*arguments: str, **options: Any) -> Server:
        servers.append(Server(*arguments, **options))
        return servers[-1]

    yield start
    for server in servers:
        server.process.kill()
        for pipe in (
            server.process.stdin,
            server.process.stdout,
            server.process.stderr,
        ):
            if pipe:
                pipe.close()
        server.process.wait()


@pytest.fixture
def start(incus: Incus) -> Iterator[Start]:
    """Return what starts a server, which leaves no instance."""
    before = names(incus)
    yield from _starting()
    garbage.collect(incus)
    wait_until_gone(incus, before)


@pytest.fixture(scope="module")
def opened(incus: Incus, bookworm: str) -> Iterator[Server]:
    """Return a server with an open testbed, for all tests of a module."""
    before = names(incus)
    starting = _starting()
    server = next(starting)(bookworm)
    server.ask("open")
    yield server
    server.ask("close")
    server.quit()
    wait_until_gone(incus, before)


@pytest.fixture(scope="module")
def scratch(opened: Server) -> str:
    """Return the scratch directory of the open testbed."""
    return opened.output("sh", "-c", "echo /tmp/autopkgtest.*")


@pytest.fixture
def nothing_left(incus: Incus) -> Iterator[None]:
    """See that there are no more instances afterwards than before."""
    before = names(incus)
    yield
    wait_until_gone(incus, before)
