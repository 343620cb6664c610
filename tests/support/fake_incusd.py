# SPDX-License-Identifier: GPL-3.0-or-later
"""A daemon in this process that runs one command, as a test tells it to.

It speaks to one client of /1.0/instances/NAME/exec: what the real one does on
a good day is tests/integration's; this one has the bad days.
"""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.listener import Listener

UPGRADE = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
    b"Connection: Upgrade\r\n\r\n"
)
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
#: What the daemon sends when a stream has ended.
END = b"\x81\x00"
KEEPALIVE = b"\x89\x09keepalive"
_LIMIT = 60


def frame(opcode: int, payload: bytes, *, final: bool = True) -> bytes:
    """Return a frame as a server sends it."""
    length = len(payload)
    if length < 126:
        size = bytes([length])
    elif length < 1 << 16:
        size = b"\x7e" + length.to_bytes(2, "big")
    else:
        size = b"\x7f" + length.to_bytes(8, "big")
    return bytes([opcode | 0x80 * final]) + size + payload


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until it is true."""
    deadline = time.monotonic() + _LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@contextlib.contextmanager
def silent(path: Path) -> Iterator[None]:
    """Listen at ``path`` and take connections, but never answer."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        yield


@contextlib.contextmanager
def full(path: Path) -> Iterator[None]:
    """Listen at ``path``, where nobody can connect any more."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(path))
        listener.listen(0)
        with contextlib.suppress(BlockingIOError):
            while True:
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(str(path))
        yield


@dataclass
class Stream:
    """What happens on a websocket: bytes sent, then a pause or its end."""

    parts: list[bytes] = field(default_factory=lambda: [END])
    #: Seconds between two parts.
    pause: float = 0.0
    #: Close it only when the client does.
    stay: bool = False
    #: Seconds until it is open.
    delay: float = 0.0
    #: What has to be true before anything is sent.
    once: Callable[[], object] = lambda: True


class Incusd:
    """The daemon, listening at ``path``."""

    def __init__(
        self,
        path: Path,
        *,
        refusals: Sequence[str] = (),
        failures: Sequence[str] = (),
        unconnected: int = 0,
        started: dict[str, Any] | None = None,
        outcome: dict[str, Any] | bytes | None = None,
        known: dict[str, Any] | None = None,
        status: int = 0,
        proxied: bool = False,
        location: str = "none",
        **streams: Stream,
    ) -> None:
        """Say what each of control, stdin, stdout and stderr brings.

        ``refusals`` are the errors that the first requests meet with, and
        ``failures`` those that the first commands meet with: they don't start.
        As many times as ``unconnected`` a client that wants a stream is told
        that the daemon has given up waiting for it.
        ``started`` replaces the answer to the others, ``outcome`` the one to
        the wait for the end, and ``known`` is a later answer about it.
        ``proxied``: as through incus-user, connections stay open until the
        client closes them or, if the daemon has gone, writes to them.
        ``location`` is the member of a cluster that the command is on.
        """
        names = {"control": "control", "stdin": "0", "stdout": "1"}
        names["stderr"] = "2"
        self._streams = {
            secret: streams.get(name, Stream())
            for name, secret in names.items()
        }
        secrets = {secret: secret for secret in names.values()}
        self._refusals = list(refusals)
        self._failures = list(failures)
        self._unconnected = unconnected
        self._started = started or {
            "type": "async",
            "metadata": {
                "id": "some-id",
                "location": location,
                "metadata": {"fds": secrets},
            },
        }
        self._outcome = outcome or {
            "type": "sync",
            "metadata": {"metadata": {"return": status}, "err": ""},
        }
        self.known: dict[str, Any] | bytes = known or {
            "type": "error",
            "error": "Operation not found",
        }
        self._proxied = proxied
        self._gone = threading.Event()
        self._controlled = threading.Event()
        self._ended = [threading.Event() for _ in range(2)]
        self.requests: list[tuple[str, bytes]] = []
        self.received: dict[str, list[tuple[int, bytes]]] = {
            secret: [] for secret in names.values()
        }
        self._listener = Listener.at(path, self._serve)

    @property
    def looks(self) -> int:
        """How often it was asked what it knows of the command."""
        return sum(
            target.startswith("GET ")
            and "/websocket?" not in target
            and "/wait?" not in target
            for target, _ in self.requests
        )

    def close(self) -> None:
        """Stop listening."""
        self.leave()
        self._listener.close()

    def leave(self) -> None:
        """Have the daemon go, but not what it is proxied by."""
        self._gone.set()

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(_LIMIT)
        reader = connection.makefile("rb")
        request = reader.readline()
        if not request:  # the client has changed its mind
            connection.close()
            return
        method, target, _ = request.decode().split(" ")
        length = 0
        while (line := reader.readline()) != b"\r\n":
            name, _, value = line.decode().partition(":")
            if name.lower() == "content-length":
                length = int(value)
        self.requests.append((f"{method} {target}", reader.read(length)))
        if method == "POST" and self._refusals:
            refusal = {"type": "error", "error": self._refusals.pop(0)}
            _answer(connection, refusal)
        elif method == "POST":
            _answer(connection, self._started)
        elif "/websocket?" in target:
            secret = target.rpartition("secret=")[2]
            self._play(secret, connection)
        elif "/wait?" in target:
            self._say_how_it_ended(connection)
        else:
            _answer(connection, self.known)
        if self._proxied:
            with contextlib.suppress(OSError):
                # Until the client closes it; or writes to what is not there.
                while connection.recv(1 << 16) and not self._gone.is_set():
                    pass
        connection.close()

    def _say_how_it_ended(self, connection: socket.socket) -> None:
        for event in self._ended:
            event.wait(_LIMIT)
        if self._gone.is_set():
            return
        if self._failures:
            failure = {"return": -1, "err": self._failures.pop(0)}
            _answer(connection, {"type": "sync", "metadata": failure})
        else:
            _answer(connection, self._outcome)

    def _opens(
        self, name: str, connection: socket.socket, delay: float
    ) -> bool:
        """Refuse a stream, as if the command ended before it had a control.

        Or as if the daemon had given up waiting for the stream.
        """
        time.sleep(delay)
        if self._unconnected:
            self._unconnected -= 1
        elif name == "control":
            self._controlled.set()
        if not self._controlled.is_set():
            refusal = "Only running operations can be connected"
            _answer(connection, {"type": "error", "error": refusal})
            return False
        return True

    def _play(self, secret: str, connection: socket.socket) -> None:
        """Do on a websocket what the test has said."""
        stream = self._streams[secret]
        if not self._opens(secret, connection, stream.delay):
            return
        connection.sendall(UPGRADE)
        listening = threading.Thread(
            target=self._listen, args=(secret, connection), daemon=True
        )
        if stream.stay or secret in {"0", "control"}:
            listening.start()
        wait_for(stream.once)
        for part in stream.parts:
            time.sleep(stream.pause)
            try:
                connection.sendall(part)
            except OSError:
                break
        if secret in {"1", "2"}:
            if stream.stay:
                listening.join(_LIMIT)
            if not self._proxied:
                with contextlib.suppress(OSError):  # the client was quicker
                    connection.shutdown(socket.SHUT_RDWR)
            self._ended[int(secret) - 1].set()
        else:
            for event in self._ended:
                event.wait(_LIMIT)
            if self._proxied:
                listening.join(_LIMIT)

    def _listen(self, secret: str, connection: socket.socket) -> None:
        """Take the client's frames apart, which are masked."""
        reader = connection.makefile("rb")
        try:
            while len(header := reader.read(2)) == 2:
                length = header[1] & 0x7F
                if length > 125:
                    size = reader.read(2 if length == 126 else 8)
                    length = int.from_bytes(size, "big")
                key = reader.read(4)
                payload = reader.read(length)
                if any(key):
                    payload = bytes(
                        byte ^ key[n % 4] for n, byte in enumerate(payload)
                    )
                self.received[secret].append((header[0] & 0x0F, payload))
                if self._gone.is_set():
                    connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return


def _answer(
    connection: socket.socket, document: dict[str, Any] | bytes
) -> None:
    if isinstance(document, dict):
        content = json.dumps(document).encode()
        head = (
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(content)}\r\n\r\n"
        )
        document = head.encode() + content
    with contextlib.suppress(OSError):
        connection.sendall(document)
