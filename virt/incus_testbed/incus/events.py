# SPDX-License-Identifier: GPL-3.0-or-later
"""What a server tells of an instance while something waits for that."""

import contextlib
import json
import logging
import select
import time
from collections.abc import Iterator
from typing import Any

from incus_testbed.incus.exec import api
from incus_testbed.incus.exec.address import Address
from incus_testbed.incus.exec.websocket import TEXT, Handshake, Websocket

log = logging.getLogger(__name__)

#: Incus 7.0 and later tell it of virtual machines (lxc/incus#3026).
_STARTED = "instance-agent-started"
#: Characters of an event; they have some hundred.
_LONGEST = 1 << 20


class AgentNews:
    """News of the agent of one instance.

    Where there are none, wait() is a pause: Incus 6.0 does not tell them, and a
    user may not be allowed to listen.
    """

    def __init__(self, name: str, websocket: Websocket | None = None) -> None:
        """Take the news of an instance from a stream of events."""
        self._source = f"/1.0/instances/{name}"
        self._websocket = websocket
        self._text = ""

    def wait(self, seconds: float) -> None:
        """Wait so many seconds, or until it is told that the agent started."""
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if not self._websocket or not self._websocket.open:
                time.sleep(left)
            elif any(map(self._is_start, self._events(self._websocket))):
                return
            else:
                readable = select.poll()
                readable.register(self._websocket.fd, select.POLLIN)
                readable.poll(left * 1000)

    def _events(self, websocket: Websocket) -> Iterator[Any]:
        """Yield what has been told since the last time."""
        for opcode, piece in websocket.receive():
            if opcode == TEXT:
                self._text += piece.decode(errors="replace")
        # One that is not whole, or makes no sense.
        with contextlib.suppress(ValueError, RecursionError):
            while self._text:
                event, end = json.JSONDecoder().raw_decode(self._text)
                self._text = self._text[end:].lstrip()
                yield event
        if len(self._text) > _LONGEST:
            websocket.close()

    def _is_start(self, event: Any) -> bool:
        try:
            told = event["metadata"]
            return bool(
                told["action"] == _STARTED
                and told["source"].partition("?")[0] == self._source
            )
        except (AttributeError, KeyError, TypeError):
            return False


@contextlib.contextmanager
def agent_news(
    address: Address | None, project: str, name: str
) -> Iterator[AgentNews]:
    """Listen to the news of an instance's agent.

    ``address`` is where the daemon listens; without it there are none.
    """
    target = f"/1.0/events?type=lifecycle&project={api.quoted(project)}"
    with contextlib.ExitStack() as stack:
        websocket = None
        try:
            if address:
                handshake = Handshake(address, target, api.LIMIT)
                stack.callback(handshake.close)
                websocket = handshake.websocket(answering=True)
        except (api.Failure, OSError) as error:
            log.debug("no news of %s: %s", name, error)
        yield AgentNews(name, websocket)
