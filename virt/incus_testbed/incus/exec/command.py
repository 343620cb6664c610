# SPDX-License-Identifier: GPL-3.0-or-later
"""A command that the daemon runs, from its start to its status."""

import json
import os
import select
import signal
import time

from .api import (
    LIMIT,
    Failure,
    Late,
    Lost,
    NotStarted,
    get,
    quoted,
)
from .control import Control, Signals
from .operation import Operation, began
from .streams import Input
from .websocket import Handshake, Websocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from .address import Address
    from .streams import Ends

#: How often a command is tried that did not start, and seconds between.
_TRIES, _PAUSE = 3, 0.05

#: Seconds between two looks whether the daemon is still there: incus-user
#: closes no connection by itself after the daemon has gone.
_PULSE = 15.0
#: The same while it is in doubt that it is.
_DOUBTFUL_PULSE = 5.0


def _utf8(word: str) -> str:
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
    command: "Sequence[str]", environment: "dict[str, str] | None" = None
) -> str:
    """Return the request that starts a command: InstanceExecPost."""
    return json.dumps(
        {
            "command": [_utf8(word) for word in command],
            "environment": {
                _utf8(name): _utf8(value)
                for name, value in (environment or {}).items()
            },
            "interactive": False,
            "wait-for-websocket": True,
            "user": 0,
            "group": 0,
            "cwd": "",
        }
    )


def run(
    address: "Address",
    instance: str,
    project: str,
    body: str,
    *,
    ends: "Ends",
    first: bytes = b"",
    limit: float | None = None,
    deadline: float | None = None,
    grace: float = 0.0,
) -> tuple[int, bytes, bytes]:
    """Run a command to its end; return its status, output and errors.

    ``body`` is the request, ``first`` input that precedes that of ``ends``, and
    ``deadline`` the time.monotonic() to give up at.  Each answer of the daemon
    may take ``limit`` seconds.  A command that did not start is tried again,
    with the same input.  If this is left before the command's end, by whatever
    exception, the command gets SIGTERM and ``grace`` seconds to clean up, and
    then is killed.

    :raises Failure: it was not run, or not to its end as far as is known
    :raises Expired: it has not ended by the deadline
    """
    query = f"?project={quoted(project)}"
    tries = _TRIES
    while True:
        tries -= 1
        session = None
        try:
            session = Session(
                address,
                f"/1.0/instances/{quoted(instance)}/exec{query}",
                query,
                body,
                ends=ends,
                first=first,
                limit=limit or LIMIT,
                deadline=deadline,
            )
            return session.run()
        except NotStarted:
            taken = session.taken if session else first
            if not tries or taken is None:
                raise
            first = taken
        except BaseException as error:
            if session and grace:
                session.end(grace)
            if isinstance(error, TimeoutError):
                waited = f"{limit or LIMIT:g} s"
                raise Late(f"no answer within {waited}") from None
            if isinstance(error, OSError):
                raise Lost(f"lost the Incus daemon: {error}") from None
            raise
        finally:
            if session:
                session.close()
        time.sleep(_PAUSE)


class Expired(Exception):
    """A command has used up its time.

    ``output`` and ``errors`` are what was kept until then.
    """

    def __init__(self, output: bytes, errors: bytes) -> None:
        """Have this output, and these errors."""
        super().__init__("expired")
        self.output = output
        self.errors = errors


class Session:
    """A command that was started, and all its connections."""

    def __init__(
        self,
        address: "Address",
        target: str,
        query: str,
        body: str,
        *,
        ends: "Ends",
        first: bytes,
        limit: float,
        deadline: float | None,
    ) -> None:
        """Have the daemon start a command.

        The arguments are those of run().

        :raises Failure: it does not
        :raises OSError: it is lost, or does not answer in time
        """
        started = get(address, target, limit, body)
        operation, secrets, on_member = began(started)
        # Asked at once: it is forgotten some seconds after its end.
        self._operation = Operation(
            address, operation, query, limit, on_member=on_member
        )
        self._handshakes: list[Handshake] = []
        self._websockets: list[Websocket] = []
        try:
            # The command starts when it has the other three, and may have
            # ended before a control that was asked for with them is connected.
            for group in (secrets[:1], secrets[1:]):
                asked = [
                    Handshake(
                        address,
                        f"{operation}/websocket{query}&secret={secret}",
                        limit,
                    )
                    for secret in group
                ]
                self._handshakes += asked
                self._websockets += [each.websocket() for each in asked]
            self._take_over(first, ends)
        except BaseException:
            self.close()
            raise
        self._deadline = deadline

    def _take_over(self, first: bytes, ends: "Ends") -> None:
        control, stdin, stdout, stderr = self._websockets
        self._control = Signals(control) if ends.signals else Control(control)
        self._input = Input(stdin, first, ends.stdin)
        self._outputs = ends.outputs(stdout, stderr)

    @property
    def taken(self) -> bytes | None:
        """The input so far, or None where that was too much to keep."""
        return self._input.taken

    def close(self) -> None:
        """End the session; a command that is still running is killed."""
        self._operation.close()
        for handshake in self._handshakes:
            handshake.close()

    def end(self, grace: float) -> None:
        """Have a command end, and its processes; it has ``grace`` seconds."""
        self._control.send_signal(signal.SIGTERM)
        for output in self._outputs:
            output.drop()
        self._deadline = time.monotonic() + grace
        try:
            self._carry()
        except (Failure, OSError, Expired):  # close() kills it
            return

    def run(self) -> tuple[int, bytes, bytes]:
        """Carry everything to and fro until the end; return status and output.

        :raises Failure: the end is not known, or not all output came
        :raises Expired: the command has not ended by the deadline
        """
        self._carry()
        status, said = self._operation.result()
        if not all(output.whole for output in self._outputs):
            raise Lost("not all of the output has come")
        stdout, stderr = self._outputs
        if said and not stderr.used:
            # A command that is not there: no shell has said so.
            stderr.say(said)
        return status, bytes(stdout.data), bytes(stderr.data)

    def _carry(self) -> None:
        parts = (self._operation, *self._outputs, self._input, self._control)
        for output in self._outputs:
            output.receive()  # what came with the handshake
        pulse = time.monotonic() + _PULSE
        while not self._finished():
            now = time.monotonic()
            if self._deadline is not None and now >= self._deadline:
                raise Expired(*(bytes(each.data) for each in self._outputs))
            if now >= pulse:
                self._feel()
                in_doubt = self._operation.in_doubt
                pulse = now + (_DOUBTFUL_PULSE if in_doubt else _PULSE)
            wait_for(
                [interest for part in parts for interest in part.interests()],
                min(pulse, self._deadline or pulse),
            )

    def _feel(self) -> None:
        """Have connections close that the daemon has left.

        :raises Failure: it has left all, and does not say how the command
            ended; or the member of a cluster that has it does not answer
        """
        self._operation.look()
        control, *streams = self._websockets
        left = [websocket for websocket in streams if websocket.open]
        if control.open:
            control.ping()
        elif left:
            for websocket in left:
                websocket.ping()
        elif not self._operation.finished:
            raise Lost("the Incus daemon has left the command")

    def _finished(self) -> bool:
        return self._operation.finished and all(
            output.finished for output in self._outputs
        )


def wait_for(
    interests: "Sequence[tuple[int, int, Callable[[], None]]]", until: float
) -> None:
    """Wait until one of these descriptors is ready, and call its function.

    Wait no longer than ``until``, of time.monotonic().
    """
    poll = select.poll()
    events: dict[int, int] = {}
    for fd, event, _ in interests:
        events[fd] = events.get(fd, 0) | event
        poll.register(fd, events[fd])
    errors = select.POLLERR | select.POLLHUP
    ready = dict(poll.poll(max(0, until - time.monotonic()) * 1000))
    for fd, event, act in interests:
        if ready.get(fd, 0) & (event | errors):
            act()
