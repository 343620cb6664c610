# SPDX-License-Identifier: GPL-3.0-or-later
"""What takes Incus time: its end, its failure, and a server that goes."""

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from incus_testbed import errors
from incus_testbed.incus import transport
from incus_testbed.incus.exec.address import UnixAddress
from incus_testbed.incus.transport import Direct
from tests.support.listener import Listener

#: Generous: it only keeps a hanging test from hanging the run.
_LIMIT = 60
_BEGUN = {"type": "async", "metadata": {"id": "an id"}}
_DONE = {"type": "sync", "metadata": {"err": ""}}

Serve = Callable[[str], dict[str, Any] | bytes | None]


class Daemon:
    """Answers requests; None leaves one without an answer."""

    def __init__(self, path: Path, answer: Serve) -> None:
        """Listen at a path."""
        self.asked: list[tuple[str, object]] = []
        self._answer = answer
        self._path = path
        self._listener = Listener.at(path, self._serve)

    def close(self) -> None:
        """Listen no more."""
        self._listener.close()

    def act(self, doubt: Any = None, timeout: float = _LIMIT) -> None:
        """Have it do something."""
        Direct(UnixAddress(str(self._path)), "a b", _LIMIT).operate(
            *("PUT", "instances/x/state", {"action": "stop"}),
            asked="incus stop x",
            timeout=timeout,
            doubt=doubt,
        )

    def _serve(self, connection: socket.socket) -> None:
        with contextlib.closing(connection), contextlib.suppress(OSError):
            reader = connection.makefile("rb")
            request = reader.readline().decode().rpartition(" ")[0]
            while (line := reader.readline().lower()) != b"\r\n":
                if line.startswith(b"content-length:"):
                    length = int(line.split()[1])
            body = reader.read(length)
            self.asked.append((request, json.loads(body or b"null")))
            answer = self._answer(request)
            if isinstance(answer, dict):
                content = json.dumps(answer).encode()
                head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(content)}"
                answer = head.encode() + b"\r\n\r\n" + content
            if answer is None:
                connection.recv(1)
            else:
                connection.sendall(answer)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Callable[[Serve], Daemon]]:
    with contextlib.ExitStack() as stack:

        def start(answer: Serve) -> Daemon:
            started = Daemon(tmp_path / "socket", answer)
            stack.callback(started.close)
            return started

        yield start


def _ending(end: dict[str, Any] | bytes | None) -> Serve:
    """Begin, and answer the wait for the end so."""
    return lambda request: end if "/wait" in request else _BEGUN


def test_it_is_waited_for(daemon: Callable[[Serve], Daemon]) -> None:
    incusd = daemon(_ending(_DONE))
    incusd.act()
    query = "?project=a%20b&recursion=0"
    assert incusd.asked == [
        (f"PUT /1.0/instances/x/state{query}", {"action": "stop"}),
        (f"GET /1.0/operations/an%20id/wait{query}", None),
    ]


@pytest.mark.parametrize(
    "end",
    [
        {"type": "sync", "metadata": {"err": "The instance is not running"}},
        {"type": "error", "error": "The instance is already stopped"},
    ],
)
def test_it_fails(
    daemon: Callable[[Serve], Daemon], end: dict[str, Any]
) -> None:
    with pytest.raises(errors.NotRunning):
        daemon(_ending(end)).act()


def test_it_is_refused(daemon: Callable[[Serve], Daemon]) -> None:
    refusal = {"type": "error", "error": "Instance not found"}
    incusd = daemon(lambda _: refusal)
    with pytest.raises(errors.NotFound):
        incusd.act()
    assert len(incusd.asked) == 1


@pytest.mark.parametrize(
    "end", [b"", b"HTTP/1.1 200 OK\r\n", {"type": "sync", "metadata": None}]
)
def test_its_end_is_not_known(
    daemon: Callable[[Serve], Daemon], end: dict[str, Any] | bytes
) -> None:
    with pytest.raises(errors.DaemonDown):
        daemon(_ending(end)).act()


def test_it_takes_too_long(daemon: Callable[[Serve], Daemon]) -> None:
    with pytest.raises(errors.TimedOut, match="incus stop x"):
        daemon(_ending(None)).act(timeout=0.3)


def test_it_is_given_up_in_doubt(
    daemon: Callable[[Serve], Daemon], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "FIRST_LOOK", 0.1)
    monkeypatch.setattr(transport, "NEXT_LOOK", 0.1)
    looks: list[float] = []

    def doubt() -> errors.TestbedError | None:
        looks.append(time.monotonic())
        return errors.MemberDown("two") if len(looks) > 2 else None

    incusd = daemon(_ending(None))
    with pytest.raises(errors.MemberDown):
        incusd.act(doubt)
    # Its end is waited for on one connection: Incus soon forgets it.
    assert len(incusd.asked) == 2


def test_its_end_comes_while_in_doubt(
    daemon: Callable[[Serve], Daemon], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "FIRST_LOOK", 0.05)
    monkeypatch.setattr(transport, "NEXT_LOOK", 0.05)

    def late(request: str) -> dict[str, Any]:
        if "/wait" not in request:
            return _BEGUN
        time.sleep(0.4)
        return _DONE

    daemon(late).act(lambda: None)
