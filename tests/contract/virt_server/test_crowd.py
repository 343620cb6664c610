# SPDX-License-Identifier: GPL-3.0-or-later
"""Many at once."""

import pytest

from .conftest import Start

_COUNT = 20


@pytest.mark.usefixtures("room_for_many")
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
