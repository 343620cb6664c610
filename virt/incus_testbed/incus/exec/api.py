# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to the Incus daemon."""

import json
import os
import time

from .response import Malformed, Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .address import Address
    from .connection import Connection

#: Bytes that are moved at a time.
CHUNK = 1 << 17
#: Seconds for the daemon to go on with a request.  A command's own streams, and
#: the wait for its end, have no limit: nothing blocks there.
LIMIT = 60.0

#: What needs no quoting in a URL (RFC 3986, 2.3).
_URL_SAFE = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)


#: Where the daemon does not connect a stream: the command has not been run, for
#: it waits for all of them.  A busy daemon has given up waiting by then.
NOT_CONNECTED = "the Incus daemon refuses to open a websocket"
#: What the daemon says where the agent of a virtual machine is too slow for
#: it: it has ten seconds for a handshake, and five to take up the streams.
TOO_SLOW = (
    NOT_CONNECTED,
    "TLS handshake timeout",
    "Only running operations can be connected",
    "Timed out waiting for websockets to connect",
)
#: What it says where nothing got into the container: that goes down, or Incus
#: failed to get there, as it does now and then on a machine that is busy.
#: Nothing has run then: lxc_attach() had failed (Incus' main_forkexec.go).
NOT_ATTACHED = "Failed to retrieve PID of executing child process"


class Failure(Exception):
    """The command was not run, or not to its end as far as is known.

    Or a question was not answered.  The message says why, for people.
    """


class Unreachable(Failure):
    """Nobody answers where the daemon should be."""


class Lost(Failure):
    """The daemon has begun to answer, and does not go on."""


class Denied(Failure):
    """The daemon is not there for this user."""


class Impostor(Failure):
    """What answers has not proven to be the daemon of this address."""


class Stranger(Failure):
    """The daemon does not accept this client's certificate."""


class NoCertificate(Failure):
    """A file by which this client or the daemon proves itself is of no use."""


class Late(Failure):
    """The daemon did not answer in time."""


class Refused(Failure):
    """The daemon says no; the message is its own."""


class NotStarted(Refused):
    """The command was not run, and may be if it is tried again."""


def refusal(message: str) -> Refused:
    """Return the failure that a message of the daemon stands for."""
    not_started = any(text in message for text in (*TOO_SLOW, NOT_ATTACHED))
    return NotStarted(message) if not_started else Refused(message)


def quoted(word: str) -> str:
    """Return a word as a part of a URL."""
    return "".join(
        chr(byte) if chr(byte) in _URL_SAFE else f"%{byte:02X}"
        for byte in os.fsencode(word)
    )


def ask(
    address: "Address",
    target: str,
    limit: float,
    body: str | None = None,
    method: str = "",
) -> "Connection":
    """Send a request; return the connection that the answer comes on.

    Without a ``method`` it is GET, or POST where there is a body.  The server
    may leave it open after the answer: incus-user does.

    :raises Failure: as Address.connect()
    :raises OSError: it is lost, or does not take the request in time
    """
    connection = address.connect(limit)
    content = (body or "").encode()
    verb = method or ("GET" if body is None else "POST")
    head = (
        f"{verb} {target} HTTP/1.1\r\n"
        "Host: incus\r\n"
        "Connection: close\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(content)}\r\n\r\n"
    )
    connection.sendall(head.encode() + content)
    return connection


def get(
    address: "Address",
    target: str,
    limit: float,
    body: str | None = None,
    method: str = "",
) -> "Any":
    """Return what the daemon's answer to a request, as in ask(), is about.

    :raises Failure: there is none, or it is an error
    """
    try:
        connection = ask(address, target, limit, body, method)
        try:
            return metadata(read(connection, limit, Response()).content)
        finally:
            connection.close()
    except TimeoutError:
        raise Late(f"no answer within {limit:g} s") from None
    except OSError as error:
        raise Lost(f"lost the Incus daemon: {error}") from None


def read(
    connection: "Connection", limit: float, response: Response
) -> Response:
    """Return an answer when it is whole; it has ``limit`` seconds to come.

    :raises Lost: it does not come, or not whole, or it is too large
    :raises OSError: the daemon is lost, or does not answer in time
    """
    deadline = time.monotonic() + limit
    while not response.whole:
        feed(response, receive(connection, deadline))
    return response


def receive(connection: "Connection", deadline: float) -> bytes:
    """Return what has come by a deadline; nothing where that is the end.

    :raises OSError: the daemon is lost, or has sent nothing by then
    """
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)
    return connection.recv(CHUNK)


def feed(response: Response, data: bytes) -> None:
    """Add what has come of an answer.

    :raises Lost: the daemon does not go on, or what it says makes no sense
    """
    try:
        response.feed(data)
    except Malformed as problem:
        raise Lost(f"lost the Incus daemon: {problem}") from None


def metadata(content: bytes | bytearray) -> "Any":
    """Return what the content of an answer of the daemon is about.

    :raises Failure: it is an error, or not an answer of Incus
    """
    try:
        answered = json.loads(content.decode())
        if answered["type"] != "error":
            return answered["metadata"]
        message = str(answered["error"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Lost("the Incus daemon did not answer, or not whole") from None
    raise refusal(message)
