# SPDX-License-Identifier: GPL-3.0-or-later
"""Run one command in an instance, over the Incus daemon's unix socket.

A program of its own, started for every command, in place of ``incus exec``,
which loses a short command's whole output when the machine is busy: incusd
greets each websocket with a ping and closes it when the command has ended;
where the client gets to run only then, its answer to the ping fails, and it
takes that for the end of what it can read (seen with Incus 6.0.4).  Here what
cannot be sent never stops what can be read, and output that the daemon did
not mark as complete is a failure.

    session.py --socket=PATH --project=NAME [--failure-status=N] [--user=UID]
        [--group=GID] [--cwd=PATH] [--env=NAME=VALUE]... INSTANCE COMMAND...

Standard input, output and error are the command's, and so is the exit status:
128 + N where signal N killed it.  Where the command was not run, or not to its
end as far as is known, the status is --failure-status (125), and the last line
of standard error is "incus-testbed: " and the reason.

SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1 and SIGUSR2 go to the command.  If
this process dies, the daemon kills the command.

Protocol, all read in Incus' source: cmd/incusd/instance_exec.go, shared/ws/,
client/incus_instances.go; websockets are RFC 6455.
"""

# json, signal, socket and typing import so much in turn that starting would
# take twice as long: these are what the first three stand on.
import _json
import _signal  # type: ignore[import-not-found]
import _socket
import os
import select
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

_TEXT, _BINARY, _CLOSE, _PING, _PONG = 1, 2, 8, 9, 10
#: The longest a control frame may be (RFC 6455, 5.5).
_CONTROL_LENGTH = 125
#: A frame to the server is masked (RFC 6455, 5.3).  This key changes nothing,
#: and there is no proxy here that anybody could want to confuse.
_MASK = bytes(4)

#: Bytes that are moved at a time.
_CHUNK = 1 << 17
#: A pipe that poll() calls writable takes this much without blocking.
_PIPE_CHUNK = select.PIPE_BUF

#: What needs no quoting in a URL (RFC 3986, 2.3).
_URL_SAFE = frozenset(
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)

#: The parts of st_mode (inode(7)) that tell a regular file.
_FILE_TYPE, _REGULAR_FILE = 0o170000, 0o100000

_FORWARDED = (
    _signal.SIGHUP,
    _signal.SIGINT,
    _signal.SIGQUIT,
    _signal.SIGTERM,
    _signal.SIGUSR1,
    _signal.SIGUSR2,
)


class Failure(Exception):
    """The command was not run, or not to its end as far as is known."""


# -- JSON


class _Grammar:
    """What json's scanner wants to be told: plain JSON."""

    strict = True
    object_hook = object_pairs_hook = array_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


_scan = _json.make_scanner(_Grammar)  # type: ignore[arg-type]
_quoted = _json.encode_basestring_ascii


def decode_json(text: str) -> "Any":
    """Return what a JSON document says.

    :raises ValueError: it is not one
    """
    try:
        return _scan(text, 0)[0]
    except StopIteration:
        raise ValueError("not JSON") from None


def encode_json(value: "Any") -> str:
    """Return lists, dicts, strings, numbers and truth values as JSON."""
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        pairs = (f"{_quoted(key)}:{encode_json(value[key])}" for key in value)
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(encode_json, value)) + "]"
    return str(int(value))


# -- HTTP


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
    while data := connection.recv(_CHUNK):
        received.append(data)
    return b"".join(received)


def metadata(answer: bytes) -> "dict[str, Any]":
    """Return what an answer of the daemon is about.

    :raises Failure: it is an error, or not an answer of Incus
    """
    try:
        document = decode_json(answer.partition(b"\r\n\r\n")[2].decode())
        if document["type"] != "error":
            result: dict[str, Any] = document["metadata"]
            return result
    except (ValueError, KeyError, TypeError):
        raise Failure(
            "unexpected EOF: the Incus daemon did not answer, or not whole"
        ) from None
    raise Failure(document["error"])


# -- websockets


class FrameReader:
    """Takes the frames of a server apart, wherever the stream is cut."""

    def __init__(self) -> None:
        """Expect the first frame."""
        self._rest = b""
        self._left = 0
        self._opcode = _BINARY

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
                if opcode >= _CLOSE:
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
    if length >= 0x80 or (opcode >= _CLOSE and length > _CONTROL_LENGTH):  # noqa: PLR2004
        raise Failure("the Incus daemon does not speak as a websocket's server")
    if len(header) < size:
        return None
    if size > 2:  # noqa: PLR2004
        length = int.from_bytes(header[2:size], "big")
    position += size
    if opcode >= _CLOSE and len(data) < position + length:
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

    def __init__(self, connection: _socket.socket, received: bytes) -> None:
        """Take over a connection after the handshake, and what came with it."""
        connection.setblocking(False)
        self._connection = connection
        self._frames = FrameReader()
        self._received = received
        self._unsent = memoryview(b"")
        self.fd = connection.fileno()
        self.open = True

    @property
    def idle(self) -> bool:
        """Whether all that was to be sent is on its way."""
        return not self._unsent

    def send(self, opcode: int, payload: bytes) -> None:
        """Send a message, as much as goes; flush() goes on with the rest."""
        if self.open:
            self._unsent = memoryview(
                bytes(self._unsent) + frame(opcode, payload)
            )
            self.flush()

    def flush(self) -> None:
        """Send what is left over, as much as goes.

        That the peer is gone shows only in receive(): what it has sent before
        is still there to be read.
        """
        try:
            while self._unsent:
                sent = self._connection.send(self._unsent)
                self._unsent = self._unsent[sent:]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent = memoryview(b"")

    def receive(self) -> "Iterator[tuple[int, bytes]]":
        """Return pieces of messages that are there; answer pings."""
        data, self._received = self._received, b""
        if not data:
            try:
                data = self._connection.recv(_CHUNK)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close()
        for opcode, piece in self._frames.feed(data):
            if opcode == _PING:
                self.send(_PONG, piece)
            elif opcode != _PONG:
                yield opcode, piece

    def close(self) -> None:
        """Close it; the peer's next write fails."""
        self.open = False
        self._unsent = memoryview(b"")
        self._connection.close()


def open_websocket(path: str, target: str) -> Websocket:
    """Return a websocket of the daemon.

    :raises Failure: it does not open one
    """
    connection = connect(path)
    connection.sendall(
        f"GET {target} HTTP/1.1\r\n"
        "Host: incus\r\n"
        "Connection: Upgrade\r\n"
        "Upgrade: websocket\r\n"
        "Sec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: aW5jdXMtdGVzdGJlZC4uLg==\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = connection.recv(_CHUNK)
        if not data:
            raise Failure("unexpected EOF: the Incus daemon closed a websocket")
        answer += data
    if b" 101 " not in answer.partition(b"\r\n")[0]:
        raise Failure("the Incus daemon refuses to open a websocket")
    return Websocket(connection, answer.partition(b"\r\n\r\n")[2])


# -- the command's streams


class Output:
    """Standard output or error: from a websocket to a file descriptor."""

    def __init__(self, websocket: Websocket, fd: int) -> None:
        """Carry what comes on the websocket to the descriptor."""
        self._websocket = websocket
        self._fd = fd
        file = os.fstat(fd).st_mode & _FILE_TYPE == _REGULAR_FILE
        self._chunk = _CHUNK if file else _PIPE_CHUNK
        self._writable = select.poll()
        self._writable.register(fd, select.POLLOUT)
        self._unwritten: list[memoryview] = []
        self.used = False
        self.whole = False

    @property
    def finished(self) -> bool:
        """Whether nothing will be written any more."""
        return not self._unwritten and not self._websocket.open

    def interests(self) -> "Iterator[tuple[int, int, Callable[[], None]]]":
        """Return what to wait for: new output only when the old is gone."""
        if self._unwritten:
            yield self._fd, select.POLLOUT, self.write
        elif self._websocket.open:
            yield self._websocket.fd, select.POLLIN, self.receive

    def receive(self) -> None:
        """Take what has come and write as much as goes."""
        for opcode, piece in self._websocket.receive():
            if opcode == _BINARY and not self.whole:
                self._unwritten.append(memoryview(piece))
                self.used = True
            elif opcode == _TEXT:  # the end of the stream, whatever it says
                self.whole = True
        self.write()

    def write(self) -> None:
        """Write as much as goes without blocking.

        The descriptor may be shared with other processes, so that it cannot
        be made non-blocking.

        :raises Failure: it cannot be written to
        """
        try:
            while self._unwritten and self._writable.poll(0):
                piece = self._unwritten[0]
                written = os.write(self._fd, piece[: self._chunk])
                if written < len(piece):
                    self._unwritten[0] = piece[written:]
                else:
                    del self._unwritten[0]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            # Let the command find out by itself, as it would without us.
            self._unwritten.clear()
            self._websocket.close()
            self.whole = True
        except OSError as error:
            raise Failure(
                f"cannot write the command's output: {error.strerror}"
            ) from None


class Input:
    """Standard input: from a file descriptor to a websocket."""

    def __init__(self, websocket: Websocket, fd: int) -> None:
        """Carry what the descriptor gives to the websocket."""
        self._websocket = websocket
        self._fd = fd
        self._ended = False

    def interests(self) -> "Iterator[tuple[int, int, Callable[[], None]]]":
        """Return what to wait for: new input only when the old is sent."""
        if not self._websocket.open:
            return
        yield self._websocket.fd, select.POLLIN, self._receive
        if not self._websocket.idle:
            yield self._websocket.fd, select.POLLOUT, self._websocket.flush
        elif not self._ended:
            yield self._fd, select.POLLIN, self._read

    def _receive(self) -> None:
        """Answer pings: nothing else comes this way."""
        for _ in self._websocket.receive():
            pass

    def _read(self) -> None:
        try:
            data = os.read(self._fd, _CHUNK)
        except BlockingIOError:
            return
        except OSError:  # a directory, or a terminal that was hung up
            data = b""
        if data:
            self._websocket.send(_BINARY, data)
        else:
            self._ended = True
            self._websocket.send(_TEXT, b"")


class Control:
    """Signals: from this process to the command."""

    def __init__(self, websocket: Websocket) -> None:
        """Forward from now on what is not ignored."""
        self._websocket = websocket
        self._signals, alarm = os.pipe()
        os.set_blocking(alarm, False)
        _signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
        for number in _FORWARDED:
            if _signal.getsignal(number) != _signal.SIG_IGN:
                _signal.signal(number, lambda *_: None)

    def interests(self) -> "Iterator[tuple[int, int, Callable[[], None]]]":
        """Return what to wait for."""
        yield self._signals, select.POLLIN, self._forward
        if self._websocket.open:
            yield self._websocket.fd, select.POLLIN, self._receive
            if not self._websocket.idle:
                yield self._websocket.fd, select.POLLOUT, self._websocket.flush

    def _forward(self) -> None:
        for number in os.read(self._signals, _CHUNK):
            if not self._websocket.open:  # the command has ended: it is for us
                die(number)
            message = encode_json({"command": "signal", "signal": number})
            self._websocket.send(_TEXT, message.encode())

    def _receive(self) -> None:
        """Answer pings, and notice the end of the command."""
        for _ in self._websocket.receive():
            pass


class Operation:
    """How the daemon says that the command has ended."""

    def __init__(self, path: str, target: str, query: str) -> None:
        """Ask when it ends."""
        self._path = path
        self._target = f"{target}{query}"
        self._connection = ask(path, f"{target}/wait{query}")
        self._answer = bytearray()
        self._outcome: dict[str, Any] | Failure | None = None

    @property
    def finished(self) -> bool:
        """Whether the command has ended, or is lost sight of."""
        return self._outcome is not None

    def interests(self) -> "Iterator[tuple[int, int, Callable[[], None]]]":
        """Return what to wait for."""
        if not self.finished:
            yield self._connection.fileno(), select.POLLIN, self._receive

    def _receive(self) -> None:
        try:
            data = self._connection.recv(_CHUNK)
        except OSError:
            data = b""
        self._answer += data
        if data:
            return
        try:
            self._outcome = self._end()
        except Failure as failure:
            self._outcome = failure

    def _end(self) -> "dict[str, Any]":
        """Return the operation as it ended.

        For a status of 126 or 127 the operation itself has failed; then the
        answer is an error without a status.  For some seconds the daemon
        still knows better.
        """
        try:
            return metadata(bytes(self._answer))
        except Failure as failure:
            try:
                return metadata(receive_all(ask(self._path, self._target)))
            except Failure:
                raise failure from None

    def result(self) -> tuple[int, str]:
        """Return the command's status and what the daemon says of it.

        :raises Failure: it did not run, or the daemon does not know its end
        """
        if isinstance(self._outcome, Failure):
            raise self._outcome
        operation = self._outcome or {}
        status = (operation.get("metadata") or {}).get("return", -1)
        if status < 0:
            raise Failure(operation.get("err") or "the command's end is lost")
        return status, operation["err"]


class Session:
    """A command that was started, and all its connections."""

    def __init__(self, path: str, instance: str, query: str, body: str) -> None:
        """Have the daemon start a command.

        :raises Failure: it does not
        """
        start = f"/1.0/instances/{instance}/exec{query}"
        made = metadata(receive_all(ask(path, start, body)))
        operation = f"/1.0/operations/{made['id']}"
        # Asked at once: it is forgotten some seconds after its end.
        self._operation = Operation(path, operation, query)
        # The command starts when it has the three others.
        control, stdin, stdout, stderr = (
            open_websocket(
                path,
                f"{operation}/websocket{query}"
                f"&secret={made['metadata']['fds'][name]}",
            )
            for name in ("control", "0", "1", "2")
        )
        self._control = Control(control)
        self._input = Input(stdin, 0)
        self._outputs = Output(stdout, 1), Output(stderr, 2)

    def run(self) -> int:
        """Carry everything to and fro until the end; return the status.

        :raises Failure: the end is not known, or not all output came
        """
        parts = (self._operation, *self._outputs, self._input, self._control)
        for output in self._outputs:
            output.receive()  # what came with the handshake
        while not self._finished():
            wait_for(
                [interest for part in parts for interest in part.interests()]
            )
        status, said = self._operation.result()
        if not all(output.whole for output in self._outputs):
            raise Failure("unexpected EOF: not all of the output has come")
        if said and not self._outputs[1].used:
            # A command that is not there: no shell has said so.
            complain(said)
        return status

    def _finished(self) -> bool:
        return self._operation.finished and all(
            output.finished for output in self._outputs
        )


def wait_for(
    interests: "Sequence[tuple[int, int, Callable[[], None]]]",
) -> None:
    """Wait until one of these descriptors is ready, and call its function."""
    poll = select.poll()
    events: dict[int, int] = {}
    for fd, event, _ in interests:
        events[fd] = events.get(fd, 0) | event
        poll.register(fd, events[fd])
    errors = select.POLLERR | select.POLLHUP
    ready = dict(poll.poll())
    for fd, event, act in interests:
        if ready.get(fd, 0) & (event | errors):
            act()


# -- the program


def complain(message: str) -> None:
    """Say something on standard error, as one line."""
    line = f"incus-testbed: {' '.join(message.split())}\n"
    try:
        os.write(2, line.encode(errors="replace"))
    except OSError:  # nobody listens: the status has to do
        return


def die(number: int) -> None:
    """End as this signal ends a process."""
    _signal.signal(number, _signal.SIG_DFL)
    os.kill(os.getpid(), number)


def occupy_standard_streams() -> None:
    """Have descriptors 0, 1 and 2 open, so that no socket gets their number."""
    fd = 0
    while fd <= 2:  # noqa: PLR2004
        fd = os.open("/dev/null", os.O_RDWR)
    os.close(fd)


def utf8(word: str) -> str:
    """Return a word of the command line as what JSON can carry.

    :raises Failure: it cannot
    """
    try:
        return os.fsencode(word).decode()
    except UnicodeDecodeError:
        raise Failure(
            f"Incus can pass on UTF-8 only, not {os.fsencode(word)!r}"
        ) from None


def request(
    options: "dict[str, str]", environment: "dict[str, str]", command: list[str]
) -> str:
    """Return the request that starts a command: InstanceExecPost."""
    document: dict[str, Any] = {
        "command": [utf8(word) for word in command],
        "environment": {
            utf8(name): utf8(value) for name, value in environment.items()
        },
        "interactive": False,
        "wait-for-websocket": True,
        "user": int(options.get("user", 0)),
        "group": int(options.get("group", 0)),
        "cwd": utf8(options.get("cwd", "")),
    }
    return encode_json(document)


def split(
    argv: "Sequence[str]",
) -> tuple[dict[str, str], dict[str, str], list[str]]:
    """Return a command line's options, environment and words."""
    options: dict[str, str] = {}
    environment: dict[str, str] = {}
    words = list(argv)
    while words and words[0].startswith("--"):
        name, _, value = words.pop(0)[2:].partition("=")
        if name == "env":
            variable, _, value = value.partition("=")
            environment[variable] = value
        else:
            options[name] = value
    return options, environment, words


def main() -> None:
    """Run the command that the command line asks for; never return."""
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    occupy_standard_streams()
    options, environment, (instance, *command) = split(sys.argv[1:])
    failure_status = int(options.get("failure-status", 125))
    if "TERM" in os.environ:  # as incus exec does
        environment.setdefault("TERM", os.environ["TERM"])
    try:
        session = Session(
            options["socket"],
            quoted(instance),
            f"?project={quoted(options['project'])}",
            request(options, environment, command),
        )
        status = session.run()
    except Failure as failure:
        complain(str(failure))
        status = failure_status
    except OSError as error:
        complain(f"unexpected EOF: lost the Incus daemon: {error}")
        status = failure_status
    # At once: nothing is buffered, and the server sees closed connections.
    os._exit(status)


if __name__ == "__main__":
    main()
