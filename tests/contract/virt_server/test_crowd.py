# SPDX-License-Identifier: GPL-3.0-or-later
"""Many at once."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Start

_COUNT = 20
#: What each booted systemd wants of it is about a dozen.
_INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
_WANTED = 1024


@pytest.fixture
def room_for_guests() -> Iterator[None]:
    """Have the kernel let guests watch files, all under one user id."""
    before = _INOTIFY.read_text()
    raised = int(before) < _WANTED
    if raised:
        try:
            _INOTIFY.write_text(f"{_WANTED}\n")
        except OSError as error:
            pytest.skip(f"{_INOTIFY} can't be raised: {error.strerror}")
    yield
    if raised:
        _INOTIFY.write_text(before)


@pytest.mark.usefixtures("room_for_guests")
def test_twenty_at_once(start: Start, bookworm: str) -> None:
    servers = [start(bookworm) for _ in range(_COUNT)]
    for server in servers:
        server.send("open")
    for server in servers:
        assert server.reply(300)[0] == "ok"
    host_names = {server.output("hostname") for server in servers}
    assert len(host_names) == _COUNT
    for server in servers:
        server.send("revert")
    for server in servers:
        assert server.reply(300)[0] == "ok"
    for server in servers:
        server.ask("close")
        server.quit()
