# SPDX-License-Identifier: GPL-3.0-or-later
"""Events as the daemon sends them.

Only virtual machines have agents, so another event stands for the agent's.
"""

import threading
import time

import pytest

from incus_testbed.incus import events
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance

_LIMIT = 120.0


def test_an_event_ends_the_wait(
    incus: Incus, bookworm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Instance.launch(incus, bookworm, purpose="test") as launched:
        launched.wait_ready()
        name = launched.name
        monkeypatch.setattr(events, "_STARTED", "instance-restarted")
        # incusd gives up a listener that answers none of its pings, every 10 s.
        with incus.agent_news(name) as news, incus.agent_news("x") as others:
            news.wait(45)
            restart = threading.Timer(1, incus.run, ("restart", "-f", name))
            restart.start()
            began = time.monotonic()
            news.wait(_LIMIT)
            assert time.monotonic() - began < _LIMIT / 2
            began = time.monotonic()
            others.wait(1)
            assert time.monotonic() - began >= 1
            restart.join()
