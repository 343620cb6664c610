# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to the Incus daemon, over its unix socket."""

import _socket
import os

from . import document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Bytes that are moved at a time.
CHUNK = 1 << 17

#: What needs no quoting in a URL (RFC 3986, 2.3).
_URL_SAFE = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)


#: What the daemon says where the agent of a virtual machine is too slow for
#: it: it has ten seconds for a handshake, and five to take up the streams.
TOO_SLOW = (
    "TLS handshake timeout",
    "Only running operations can be connected",
    "Timed out waiting for websockets to connect",
)
#: What it says where nothing got into the container: that goes down, or Incus
#: failed to get there, as it does now and then on a machine that is busy.
#: Nothing has run then: lxc_attach() had failed (Incus' main_forkexec.go).
NOT_ATTACHED = "Failed to retrieve PID of executing child process"


class Failure(Exception):
    """The command was not run, or not to its end as far as is known."""


class NotStarted(Failure):
    """The command was not run, and may be if it is tried again."""


def failure(message: str) -> Failure:
    """Return the failure that a message of the daemon stands for."""
    not_started = any(text in message for text in (*TOO_SLOW, NOT_ATTACHED))
    return NotStarted(message) if not_started else Failure(message)


def quoted(word: str) -> str:
    """Return a word as a part of a URL."""
    return "".join(
        chr(byte) if chr(byte) in _URL_SAFE else f"%{byte:02X}"
        for byte in os.fsencode(word)
    )


def connect(path: str) -> _socket.socket:
    """Return a connection to the daemon.

    :raises Failure: nobody answers there, or not to us
    """
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.connect(path)
    except PermissionError:
        raise Failure(
            "You don't have the needed permissions to talk to the Incus daemon"
            f" (socket path: {path})"
        ) from None
    except OSError as error:
        raise Failure(
            "The Incus daemon doesn't appear to be started"
            f" (socket path: {path}): {error}"
        ) from None
    return connection


def ask(path: str, target: str, body: str | None = None) -> _socket.socket:
    """Send a request; the answer is what can be read until the end.

    HTTP/1.0 is what has the server close the connection after its answer.
    """
    connection = connect(path)
    content = (body or "").encode()
    head = (
        f"{'GET' if body is None else 'POST'} {target} HTTP/1.0\r\n"
        "Host: incus\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    connection.sendall(head.encode() + content)
    return connection


def receive_all(connection: _socket.socket) -> bytes:
    """Return what a peer sends until it closes the connection."""
    received = []
    while data := connection.recv(CHUNK):
        received.append(data)
    return b"".join(received)


def metadata(answer: bytes) -> "dict[str, Any]":
    """Return what an answer of the daemon is about.

    :raises Failure: it is an error, or not an answer of Incus
    """
    try:
        answered = document.decode(answer.partition(b"\r\n\r\n")[2].decode())
        if answered["type"] != "error":
            result: dict[str, Any] = answered["metadata"]
            return result
    except (ValueError, KeyError, TypeError):
        raise Failure(
            "unexpected EOF: the Incus daemon did not answer, or not whole"
        ) from None
    raise failure(answered["error"])
