# SPDX-License-Identifier: GPL-3.0-or-later
"""News of an agent: what ends a wait, and what does not."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from incus_testbed.incus import events
from incus_testbed.incus.exec.address import UnixAddress
from incus_testbed.incus.exec.websocket import BINARY, CLOSE, PING, PONG, TEXT
from tests.support.fake_incusd import frame

_OPENED = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
_LIMIT = 20.0
#: Seconds of a wait that nothing ends.
_PAUSE = 0.3

Say = Callable[[socket.socket], object]


def _event(action: str, source: str) -> bytes:
    told = {"action": action, "source": source}
    return json.dumps({"type": "lifecycle", "metadata": told}).encode()


def _started(name: str) -> bytes:
    return _event("instance-agent-started", f"/1.0/instances/{name}")


@contextlib.contextmanager
def _server(folder: Path, say: Say) -> Iterator[UnixAddress]:
    """Serve one listener: read its request, and say something."""
    path = folder / "socket"

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            request = b""
            while b"\r\n\r\n" not in request:
                request += connection.recv(4096)
            assert request.startswith(
                b"GET /1.0/events?type=lifecycle&project=a%2Fb "
            )
            say(connection)
            with contextlib.suppress(ConnectionError):
                while connection.recv(4096):  # until it has gone
                    pass

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        yield UnixAddress(str(path))
        thread.join(_LIMIT)
        assert not thread.is_alive()


def _waited(folder: Path, say: Say, seconds: float) -> float:
    """Return how long a wait of so many seconds has taken."""
    with (
        _server(folder, say) as address,
        events.agent_news(address, "a/b", "vm") as news,
    ):
        began = time.monotonic()
        news.wait(seconds)
        return time.monotonic() - began


def _text(*messages: bytes) -> Say:
    frames = b"".join(frame(TEXT, message) for message in messages)
    return lambda connection: connection.sendall(_OPENED + frames)


def _in_pieces(connection: socket.socket) -> None:
    message = _started("vm")
    said = _OPENED + frame(TEXT, message[:20], final=False)
    said += frame(0, message[20:])
    for place in range(len(said)):
        connection.sendall(said[place : place + 1])


@pytest.mark.parametrize(
    "say",
    [
        _text(_started("vm")),
        _text(
            _event("instance-agent-started", "/1.0/instances/vm?project=a%2Fb")
        ),
        _text(_started("other"), b"[]", b"1", _started("vm")),
        _in_pieces,
    ],
    ids=["it", "with a project", "after others", "in pieces"],
)
def test_the_start_of_the_agent_ends_the_wait(say: Say, tmp_path: Path) -> None:
    assert _waited(tmp_path, say, _LIMIT) < _LIMIT / 2


@pytest.mark.parametrize(
    "say",
    [
        _text(_started("other")),
        _text(_event("instance-started", "/1.0/instances/vm")),
        _text(b'{"metadata": null}', b'{"metadata": {"source": 7}}'),
        _text(b"nonsense", _started("vm")),
        lambda connection: connection.sendall(
            _OPENED + frame(BINARY, _started("vm"))
        ),
        lambda connection: connection.sendall(
            _OPENED + frame(PING, b"") + frame(CLOSE, b"")
        ),
        lambda connection: connection.sendall(
            b"HTTP/1.1 403 Forbidden\r\n\r\n"
        ),
        lambda connection: connection.shutdown(socket.SHUT_RDWR),
    ],
    ids=[
        *("another", "another action", "no event", "no JSON", "no text"),
        *("closed", "refused", "gone"),
    ],
)
def test_nothing_else_ends_it(say: Say, tmp_path: Path) -> None:
    assert _waited(tmp_path, say, _PAUSE) >= _PAUSE


def test_what_was_told_before_ends_the_next_wait(tmp_path: Path) -> None:
    with (
        _server(tmp_path, _text(_started("vm"))) as address,
        events.agent_news(address, "a/b", "vm") as news,
    ):
        time.sleep(_PAUSE)
        began = time.monotonic()
        news.wait(_LIMIT)
        assert time.monotonic() - began < _LIMIT / 2
        news.wait(_PAUSE)
        assert time.monotonic() - began >= _PAUSE


def test_a_ping_is_answered(tmp_path: Path) -> None:
    answers = []

    def say(connection: socket.socket) -> None:
        connection.sendall(_OPENED + frame(PING, b"keepalive"))
        answers.append(connection.recv(4096))

    _waited(tmp_path, say, _PAUSE)
    (answer,) = answers
    assert answer[0] == 0x80 | PONG
    assert answer.endswith(b"keepalive")


def test_an_event_without_end_is_not_kept(tmp_path: Path) -> None:
    def say(connection: socket.socket) -> None:
        connection.sendall(_OPENED)
        with pytest.raises(ConnectionError):
            connection.sendall(frame(TEXT, b"[" * (64 << 20)))

    assert _waited(tmp_path, say, 2) >= 2


def test_without_an_address_it_is_a_pause() -> None:
    with events.agent_news(None, "default", "vm") as news:
        began = time.monotonic()
        news.wait(_PAUSE)
        assert time.monotonic() - began >= _PAUSE


def test_without_a_daemon_it_is_a_pause(tmp_path: Path) -> None:
    nobody = UnixAddress(str(tmp_path / "nobody"))
    with events.agent_news(nobody, "default", "vm") as news:
        began = time.monotonic()
        news.wait(_PAUSE)
        assert time.monotonic() - began >= _PAUSE
