# SPDX-License-Identifier: GPL-3.0-or-later
"""A command that the daemon runs, from its start to its status."""

import os
import select

from .api import (
    CHUNK,
    LARGEST_ANSWER,
    LIMIT,
    Failure,
    ask,
    failure,
    metadata,
    quoted,
    receive_all,
)
from .streams import Control, Input, Output
from .websocket import open_websocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import Any

    Interests = Iterator[tuple[int, int, Callable[[], None]]]


#: What the daemon calls a command's websockets.
_STREAMS = ("control", "0", "1", "2")
#: The largest exit status.
_LARGEST = 255
_NONSENSE = "unexpected EOF: the answer of the Incus daemon makes no sense"


class Operation:
    """How the daemon says that the command has ended."""

    def __init__(self, path: str, target: str, query: str) -> None:
        """Ask when it ends."""
        self._path = path
        self._target = f"{target}{query}"
        self._connection = ask(path, f"{target}/wait{query}", LIMIT)
        self._answer = bytearray()
        self._outcome: Any = None
        self._ended = False

    @property
    def finished(self) -> bool:
        """Whether the command has ended, or is lost sight of."""
        return self._ended

    def interests(self) -> "Interests":
        """Return what to wait for."""
        if not self.finished:
            yield self._connection.fileno(), select.POLLIN, self._receive

    def _receive(self) -> None:
        try:
            data = self._connection.recv(CHUNK)
        except OSError:
            data = b""
        self._answer += data
        if data and len(self._answer) <= LARGEST_ANSWER:
            return
        self._ended = True
        try:
            self._outcome = self._end()
        except Failure as problem:
            self._outcome = problem

    def _end(self) -> "Any":
        """Return the operation as it ended.

        For a status of 126 or 127 the operation itself has failed; then the
        answer is an error without a status.  For some seconds the daemon
        still knows better.
        """
        try:
            return metadata(bytes(self._answer))
        except Failure as problem:
            try:
                answer = ask(self._path, self._target, LIMIT)
                return metadata(receive_all(answer))
            except (Failure, TimeoutError):
                raise problem from None

    def result(self) -> tuple[int, str]:
        """Return the command's status and what the daemon says of it.

        :raises Failure: it did not run, or the daemon does not know its end
        """
        if isinstance(self._outcome, Failure):
            raise self._outcome
        operation = self._outcome or {}
        try:
            said = str(operation.get("err") or "")
            status = (operation.get("metadata") or {}).get("return", -1)
            if 0 <= status <= _LARGEST:
                return int(status), said
        except (AttributeError, TypeError):
            raise Failure(_NONSENSE) from None
        raise failure(said or "the command's end is lost")


def _started(operation: "Any") -> "tuple[str, list[str]]":
    """Return the path of an operation, and its websockets' secrets.

    :raises Failure: the daemon did not say them
    """
    try:
        fds = operation["metadata"]["fds"]
        secrets = [quoted(fds[name]) for name in _STREAMS]
        return f"/1.0/operations/{quoted(operation['id'])}", secrets
    except (KeyError, TypeError, ValueError):
        raise Failure(_NONSENSE) from None


class Session:
    """A command that was started, and all its connections."""

    def __init__(
        self, path: str, instance: str, query: str, body: str, first: bytes
    ) -> None:
        """Have the daemon start a command, with ``first`` before the input.

        :raises Failure: it does not
        :raises TimeoutError: the daemon does not answer in time
        """
        start = f"/1.0/instances/{instance}/exec{query}"
        operation, secrets = _started(
            metadata(receive_all(ask(path, start, LIMIT, body)))
        )
        # Asked at once: it is forgotten some seconds after its end.
        self._operation = Operation(path, operation, query)
        # The command starts when it has the three others.
        control, stdin, stdout, stderr = (
            open_websocket(
                path,
                f"{operation}/websocket{query}&secret={secret}",
            )
            for secret in secrets
        )
        self._control = Control(control)
        self._input = Input(stdin, 0, first)
        self._outputs = Output(stdout, 1), Output(stderr, 2)

    @property
    def taken(self) -> bytes | None:
        """The input so far, or None where that was too much to keep."""
        return self._input.taken

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


def complain(message: str) -> None:
    """Say something on standard error, as one line."""
    line = f"incus-testbed: {' '.join(message.split())}\n"
    try:
        os.write(2, line.encode(errors="replace"))
    except OSError:  # nobody listens: the status has to do
        return
