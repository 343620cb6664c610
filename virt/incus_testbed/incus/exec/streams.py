# SPDX-License-Identifier: GPL-3.0-or-later
"""A command's streams, between websockets and this process."""

import errno
import os
import select
import stat

from .api import CHUNK, Failure
from .websocket import BINARY, TEXT, Websocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Interests = Iterator[tuple[int, int, Callable[[], None]]]

#: A pipe that poll() calls writable takes this much without blocking.
_PIPE_CHUNK = select.PIPE_BUF

#: Bytes of input that are kept for another try of the command.  Of one that
#: does not start, less is on its way: sockets and pipes take no more.
_KEPT = 1 << 20

#: Bytes of output that are kept in memory: what we ask a guest for is short,
#: and a guest can print without end.
MOST_KEPT = 16 << 20

#: In place of a descriptor: there is no input; output is kept.
NONE = KEPT = -1

#: What says that a descriptor, or the kernel (before 6.4), can't be asked to
#: take only what goes at once.
_UNABLE = frozenset({errno.EOPNOTSUPP, errno.EINVAL, errno.ESPIPE})


def is_regular_file(fd: int) -> bool:
    """Tell whether a descriptor is of a regular file."""
    return stat.S_ISREG(os.fstat(fd).st_mode)


def put_file(fd: int, data: memoryview) -> int:
    """Write to a regular file; return how much."""
    return os.write(fd, data[:CHUNK])


def put_at_once(fd: int, data: memoryview) -> int:
    """Write what goes without blocking to what is writable; return how much."""
    try:
        return os.pwritev(fd, [data], -1, os.RWF_NOWAIT)
    except OSError as error:
        if error.errno not in _UNABLE:
            raise
        return os.write(fd, data[:_PIPE_CHUNK])


class Ends:
    """Where a command's streams lead: descriptors, NONE or KEPT."""

    def __init__(
        self,
        stdin: int = NONE,
        stdout: int = KEPT,
        stderr: int = KEPT,
        *,
        most: int | None = MOST_KEPT,
        signals: bool = False,
    ) -> None:
        """Keep at most so many bytes of output; None: all.

        ``signals``: those of this process go to the command.
        """
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self._most = most
        self.signals = signals

    def outputs(
        self, stdout: Websocket, stderr: Websocket
    ) -> "tuple[Output, Output]":
        """Return what takes output and errors there from websockets."""
        return (
            self._output(stdout, self.stdout),
            self._output(stderr, self.stderr),
        )

    def _output(self, websocket: Websocket, fd: int) -> "Output":
        if fd == KEPT:
            return Output(websocket, self._most)
        return CarriedOutput(websocket, fd)


class Output:
    """Standard output or error: from a websocket, to be kept."""

    def __init__(self, websocket: Websocket, most: int | None) -> None:
        """Keep what comes on the websocket; ``most`` as in Ends."""
        self._websocket = websocket
        self._most = most
        self._wanted = True
        self.data = bytearray()
        self.used = False
        self.whole = False

    @property
    def finished(self) -> bool:
        """Whether no more will come."""
        return not self._websocket.open

    def interests(self) -> "Interests":
        """Return what to wait for."""
        if self._websocket.open:
            yield self._websocket.fd, select.POLLIN, self.receive

    def receive(self) -> None:
        """Take what has come.

        :raises Failure: it is more than can be kept
        """
        for opcode, piece in self._websocket.receive():
            if opcode == BINARY and not self.whole:
                if self._wanted:
                    self._take(piece)
                self.used = True
            elif opcode == TEXT:  # the end of the stream, whatever it says
                self.whole = True
                # Through incus-user it would stay open.
                self._websocket.close()

    def drop(self) -> None:
        """Take no more from now on, so that nothing waits for it."""
        self._wanted = False

    def say(self, message: str) -> None:
        """Add what the daemon says."""
        self.data += message.encode()

    def _take(self, piece: bytes) -> None:
        self.data += piece
        if self._most is not None and len(self.data) > self._most:
            raise Failure(
                f"it printed more than {self._most >> 20} MiB, and no answer is"
                " so long: do not use this testbed any longer"
            )


class CarriedOutput(Output):
    """Standard output or error: from a websocket to a file descriptor."""

    def __init__(self, websocket: Websocket, fd: int) -> None:
        """Carry what comes on the websocket to the descriptor."""
        super().__init__(websocket, None)
        self._fd = fd
        self._put = put_file if is_regular_file(fd) else put_at_once
        self._writable = select.poll()
        self._writable.register(fd, select.POLLOUT)
        self._unwritten: list[memoryview] = []

    @property
    def finished(self) -> bool:
        """Whether nothing will be written any more."""
        return not self._unwritten and not self._websocket.open

    def interests(self) -> "Interests":
        """Return what to wait for: new output only when the old is gone."""
        if self._unwritten:
            yield self._fd, select.POLLOUT, self.write
        else:
            yield from super().interests()

    def receive(self) -> None:
        """Take what has come and write as much as goes."""
        super().receive()
        self.write()

    def drop(self) -> None:
        """Write no more from now on."""
        super().drop()
        self._unwritten.clear()

    def say(self, message: str) -> None:
        """Write what the daemon says, as one line."""
        complain(message, self._fd)

    def _take(self, piece: bytes) -> None:
        self._unwritten.append(memoryview(piece))

    def write(self) -> None:
        """Write as much as goes without blocking.

        The descriptor may be shared with other processes, so that it cannot
        be made non-blocking.

        :raises Failure: it cannot be written to
        """
        try:
            while self._unwritten and self._writable.poll(0):
                piece = self._unwritten[0]
                written = self._put(self._fd, piece)
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
    """Standard input: to a websocket."""

    def __init__(
        self, websocket: Websocket, first: bytes, fd: int = NONE
    ) -> None:
        """Carry ``first``, then what a descriptor gives, to the websocket."""
        self._websocket = websocket
        self._fd = fd
        self._ended = False
        self._taken = bytearray(first)
        if first:
            websocket.send(BINARY, first)
        if fd == NONE:
            self._end()

    @property
    def taken(self) -> bytes | None:
        """All that was carried, or None where that was too much to keep."""
        return bytes(self._taken) if len(self._taken) <= _KEPT else None

    def interests(self) -> "Interests":
        """Return what to wait for: new input only when the old is sent."""
        if not self._websocket.open:
            return
        yield self._websocket.fd, select.POLLIN, self._receive
        if not self._websocket.idle:
            yield self._websocket.fd, select.POLLOUT, self._websocket.flush
        elif not self._ended:
            yield self._fd, select.POLLIN, self._read

    def _receive(self) -> None:
        """Notice the end: nothing else comes this way."""
        for _ in self._websocket.receive():
            pass

    def _end(self) -> None:
        self._ended = True
        self._websocket.send(TEXT, b"")

    def _read(self) -> None:
        try:
            data = os.read(self._fd, CHUNK)
        except BlockingIOError:
            return
        except OSError:  # a directory, or a terminal that was hung up
            data = b""
        if data:
            if len(self._taken) <= _KEPT:
                self._taken += data
            self._websocket.send(BINARY, data)
        else:
            self._end()


def complain(message: str, fd: int = 2) -> None:
    """Say something as one line, on standard error or on ``fd``."""
    line = f"incus-testbed: {' '.join(message.split())}\n"
    try:
        os.write(fd, line.encode(errors="replace"))
    except OSError:  # nobody listens: the status has to do
        return
