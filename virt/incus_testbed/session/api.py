# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to the Incus daemon, over its unix socket."""

import _socket
import os
import time

from . import document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Bytes that are moved at a time.
CHUNK = 1 << 17
#: Seconds for the daemon to go on with a request.  A command's own streams, and
#: the wait for its end, have no limit: nothing blocks there.
LIMIT = 60.0
#: Bytes of an answer: a server with ten thousand instances has less to say.
LARGEST_ANSWER = 256 << 20
#: Seconds between two tries to connect where too many others wait for that.
_PAUSE = 0.05
#: What the reason of a failure begins with where the daemon did not answer in
#: time: another process reads it.
TIMED_OUT = "timed out: "

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


def connect(path: str, limit: float) -> _socket.socket:
    """Return a connection to the daemon, within ``limit`` seconds.

    So many seconds are then the limit of each read and write.

    :raises Failure: nobody answers there, or not to us
    :raises TimeoutError: the daemon takes no connection in time
    """
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.settimeout(limit)
    deadline = time.monotonic() + limit
    while not _connected(connection, path):
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(_PAUSE)
    return connection


def _connected(connection: _socket.socket, path: str) -> bool:
    """Connect; return False where the daemon's queue is full.

    The kernel has no time limit for that wait: connect(2) either waits for
    ever or fails at once with EAGAIN (unix(7)).
    """
    try:
        connection.connect(path)
    except BlockingIOError:
        return False
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
    return True


def ask(
    path: str, target: str, limit: float, body: str | None = None
) -> _socket.socket:
    """Send a request; the answer is what can be read until the end.

    HTTP/1.0 is what has the server close the connection after its answer.

    :raises TimeoutError: as connect(), and so do reads of the answer
    """
    connection = connect(path, limit)
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
    """Return what a peer sends until it closes the connection.

    :raises Failure: it does not come to an end
    """
    received, length = [], 0
    while data := connection.recv(CHUNK):
        received.append(data)
        length += len(data)
        if length > LARGEST_ANSWER:
            raise Failure(
                "unexpected EOF: an answer of the Incus daemon is"
                f" larger than {LARGEST_ANSWER} bytes"
            )
    return b"".join(received)


def metadata(answer: bytes) -> "Any":
    """Return what an answer of the daemon is about.

    :raises Failure: it is an error, or not an answer of Incus
    """
    try:
        answered = document.decode(answer.partition(b"\r\n\r\n")[2].decode())
        if answered["type"] != "error":
            return answered["metadata"]
        message = str(answered["error"])
    except (ValueError, KeyError, TypeError):
        raise Failure(
            "unexpected EOF: the Incus daemon did not answer, or not whole"
        ) from None
    raise failure(message)
