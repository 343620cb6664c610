# SPDX-License-Identifier: GPL-3.0-or-later
"""Websockets (RFC 6455), the client's side of them, without blocking."""

import time

from .api import CHUNK, NOT_CONNECTED, Failure, Lost, NotStarted, receive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .address import Address
    from .connection import Connection

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
#: The longest a control frame may be (RFC 6455, 5.5).
_CONTROL_LENGTH = 125
#: A frame to the server is masked (RFC 6455, 5.3).  This key changes nothing,
#: and there is no proxy here that anybody could want to confuse.
_MASK = bytes(4)
#: Bytes of the daemon's answer to a handshake.
_LONGEST_ANSWER = 1 << 16


class FrameReader:
    """Takes the frames of a server apart, wherever the stream is cut."""

    def __init__(self) -> None:
        """Expect the first frame."""
        self._rest = b""
        self._left = 0
        self._opcode = BINARY

    def feed(self, data: bytes) -> "list[tuple[int, bytes]]":
        """Return what these bytes complete, each with its opcode.

        Control frames come whole; of messages the pieces that there are, with
        the message's own opcode.

        :raises Failure: this is no websocket's server
        """
        data = self._rest + data
        position = 0
        pieces = []
        while True:
            if not self._left:
                frame = _frame(data, position)
                if not frame:
                    break
                opcode, self._left, position = frame
                if opcode >= CLOSE:
                    end = position + self._left
                    pieces.append((opcode, data[position:end]))
                    position, self._left = end, 0
                    continue
                self._opcode = opcode or self._opcode
            piece = data[position : position + self._left]
            if self._left and not piece:
                break
            pieces.append((self._opcode, piece))
            position += len(piece)
            self._left -= len(piece)
        self._rest = data[position:]
        return pieces


def _frame(data: bytes, position: int) -> tuple[int, int, int] | None:
    """Return a frame's opcode, its payload's length and position.

    None is for one whose header, or control frame, is not all there.
    """
    header = data[position : position + 10]
    if len(header) < 2:  # noqa: PLR2004
        return None
    opcode, length = header[0] & 0x0F, header[1]
    size = {126: 4, 127: 10}.get(length, 2)
    if length >= 0x80 or (opcode >= CLOSE and length > _CONTROL_LENGTH):  # noqa: PLR2004
        raise Failure("the Incus daemon does not speak as a websocket's server")
    if len(header) < size:
        return None
    if size > 2:  # noqa: PLR2004
        length = int.from_bytes(header[2:size], "big")
    position += size
    if opcode >= CLOSE and len(data) < position + length:
        return None
    return opcode, length, position


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a whole message, as a client sends it."""
    length = len(payload)
    if length <= _CONTROL_LENGTH:
        size = bytes([0x80 | length])
    elif length < 1 << 16:
        size = b"\xfe" + length.to_bytes(2, "big")
    else:
        size = b"\xff" + length.to_bytes(8, "big")
    return bytes([0x80 | opcode]) + size + _MASK + payload


class Websocket:
    """One of a session's websockets; nothing here blocks."""

    def __init__(
        self,
        connection: "Connection",
        received: bytes,
        *,
        answering: bool = False,
    ) -> None:
        """Take over a connection after the handshake, and what came with it.

        ``answering``: pings are answered.
        """
        connection.settimeout(0)
        self._connection = connection
        self._answering = answering
        self._frames = FrameReader()
        self._received = received
        self._unsent = memoryview(b"")
        self.fd = connection.fileno()
        self.open = True

    @property
    def idle(self) -> bool:
        """Whether all that was to be sent is on its way."""
        return not self._unsent and self._connection.idle

    def send(self, opcode: int, payload: bytes) -> None:
        """Send a message, as much as goes; flush() goes on with the rest."""
        if self.open:
            self._unsent = memoryview(
                bytes(self._unsent) + frame(opcode, payload)
            )
            self.flush()

    def ping(self) -> None:
        """Find out whether the peer is still there: if not, this closes."""
        if self.idle:
            self.send(PING, b"")

    def flush(self) -> None:
        """Send what is left over, as much as goes.

        That the peer is gone shows only in receive(): what it has sent before
        is still there to be read.
        """
        try:
            while not self.idle:
                sent = self._connection.send(self._unsent)
                self._unsent = self._unsent[sent:]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent = memoryview(b"")

    def receive(self) -> "Iterator[tuple[int, bytes]]":
        """Return pieces of messages that are there.

        Pings to a command are not answered.  incusd does not look for answers,
        and one that comes after the end of a command has incus-user throw away
        the output that it has not passed on yet: its connection to incusd is
        broken then.  Who listens to events has to answer.
        """
        data, self._received = self._received, b""
        if not data:
            try:
                data = self._connection.recv(CHUNK)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
        for opcode, piece in self._frames.feed(data):
            if opcode == CLOSE:
                self.close()
                return
            if opcode == PING and self._answering:
                self.send(PONG, piece)
            if opcode not in {PING, PONG}:
                yield opcode, piece

    def close(self) -> None:
        """Close it; the peer's next write fails."""
        self.open = False
        self._unsent = memoryview(b"")
        self._connection.close()


class Handshake:
    """A websocket, or another protocol, that the daemon was asked for."""

    def __init__(
        self,
        address: "Address",
        target: str,
        limit: float,
        *,
        protocol: str = "websocket",
    ) -> None:
        """Ask for it; the answer has ``limit`` seconds.

        :raises Failure: nobody answers there
        :raises OSError: the daemon is lost, or does not take the request
        """
        self._deadline = time.monotonic() + limit
        self._connection = address.connect(limit)
        self._connection.sendall(
            f"GET {target} HTTP/1.1\r\n"
            "Host: incus\r\n"
            "Connection: Upgrade\r\n"
            f"Upgrade: {protocol}\r\n"
            "Sec-WebSocket-Version: 13\r\n"
            "Sec-WebSocket-Key: aW5jdXMtdGVzdGJlZC4uLg==\r\n\r\n".encode()
        )

    def websocket(self, *, answering: bool = False) -> Websocket:
        """Wait for the answer, as opened() does; return the websocket.

        ``answering``: it answers pings.
        """
        connection, rest = self.opened()
        return Websocket(connection, rest, answering=answering)

    def opened(self) -> "tuple[Connection, bytes]":
        """Wait for the answer; return the connection, and what came after it.

        :raises Lost: there is none
        :raises NotStarted: the daemon does not speak that here
        :raises OSError: it is lost, or does not answer in time
        """
        answer = b""
        while b"\r\n\r\n" not in answer:
            data = receive(self._connection, self._deadline)
            if not data or len(answer) > _LONGEST_ANSWER:
                raise Lost("the Incus daemon closed a websocket")
            answer += data
        if b" 101 " not in answer.partition(b"\r\n")[0]:
            raise NotStarted(NOT_CONNECTED)
        return self._connection, answer.partition(b"\r\n\r\n")[2]

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
