# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that runs sessions in its children, which have nothing to import.

It ends when its owner does, and what it has begun has ended.  Over
TLS, connections that are ready are handed on, too: there 50 commands took
2.95 s, and 4.44 s where each was a program of its own.  By a socket it was
2.84 s, and 3.04 s.
"""

import os
import select
import signal
import socket
import sys

from . import address, forked, program

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import NoReturn

    from .address import Address

#: Seconds for a caller to say what it wants.
_REQUEST_LIMIT = 10.0
#: Seconds that connections are kept ready for another command.
_READY_FOR = 30.0
#: Bytes of signals that are read at a time.
_SIGNALS = 64


class _Call:
    """A session that runs, and the caller that waits for it."""

    def __init__(self, caller: socket.socket, pid: int) -> None:
        self.caller = caller
        self.pid = pid
        self.ended = os.pidfd_open(pid)

    def forward(self) -> bool:
        """Send on the caller's signals; return False where it has gone.

        The session ends with its caller.
        """
        try:
            numbers = self.caller.recv(_SIGNALS)
        except BlockingIOError:
            return True
        except OSError:
            numbers = b""
        for number in numbers:
            if number in forked.FORWARDED:
                os.kill(self.pid, number)
        if not numbers:
            os.kill(self.pid, signal.SIGKILL)
        return bool(numbers)

    def close(self) -> None:
        """Forget a session that has ended."""
        os.waitpid(self.pid, 0)
        os.close(self.ended)
        self.caller.close()


class Forkserver:
    """Waits for callers and for what runs for them."""

    def __init__(self, name: str) -> None:
        """Listen; ``name`` is that of forked.outcome().

        :raises OSError: another process does, or the kernel has no pidfds: in
            some containers it is not allowed to have them
        """
        os.close(os.pidfd_open(os.getpid()))
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._door.bind(forked.address(name))
        self._door.listen(socket.SOMAXCONN)
        self._poll = select.poll()
        self._poll.register(self._door, select.POLLIN)
        #: By the descriptors that tell of them.
        self._calls: dict[int, _Call] = {}
        #: Where connections are ready, and whether more of them are wanted.
        self._ready: Address | None = None
        self._wanting = False

    def serve(self, owner: int) -> None:
        """Serve until the end of what a descriptor gives, and of all calls."""
        self._poll.register(owner, select.POLLIN)
        while self._is_open() or self._calls:
            told = self._poll.poll(self._patience())
            if not told:
                self._use_pause()
            for fd, _ in told:
                if fd == owner:
                    self._poll.unregister(owner)
                    self._poll.unregister(self._door)
                    self._door.close()
                elif call := self._calls.get(fd):
                    self._attend(call, fd)
                elif fd == self._door.fileno():
                    self._answer()

    def _is_open(self) -> bool:
        return self._door.fileno() >= 0

    def _attend(self, call: _Call, fd: int) -> None:
        if fd == call.ended:
            self._forget(fd)
            self._forget(call.caller.fileno())
            call.close()
        elif not call.forward():
            self._forget(fd)

    def _forget(self, fd: int) -> None:
        if self._calls.pop(fd, None):
            self._poll.unregister(fd)

    def _answer(self) -> None:
        """Take a call, and begin what it asks for."""
        caller, _ = self._door.accept()
        caller.settimeout(_REQUEST_LIMIT)
        streams: list[int] = []
        try:
            terminal, *argv = _request(caller, streams)
            where = address.of(program.split(argv)[0])
            pid = os.fork()
            if not pid:
                self._become(caller, streams, terminal, argv)
        except (OSError, ValueError, KeyError):
            # It was killed meanwhile, or is not one of ours.
            caller.close()
            return
        finally:
            for fd in streams:
                os.close(fd)
        caller.settimeout(0)
        call = _Call(caller, pid)
        for fd in (caller.fileno(), call.ended):
            self._calls[fd] = call
            self._poll.register(fd, select.POLLIN)
        self._stock_for(where)

    def _patience(self) -> float | None:
        """Return the milliseconds after which there is something else to do."""
        if self._wanting:
            return 0
        return _READY_FOR * 1000 if self._ready else None

    def _use_pause(self) -> None:
        """Have one more connection ready, or give up those that none wants."""
        if self._wanting and self._ready:
            self._wanting = self._ready.stock_up()
        else:
            self._stock_for(None)

    def _stock_for(self, where: "Address | None") -> None:
        """Leave what is ready to the child; begin again, for this address."""
        if self._ready:
            self._ready.let_go()
        self._ready = where
        self._wanting = where is not None

    def _become(
        self,
        caller: socket.socket,
        streams: "Sequence[int]",
        terminal: str,
        argv: "Sequence[str]",
    ) -> "NoReturn":
        """Be the session: answer the caller and end."""
        try:
            # The ends of these tell others something.
            self._door.close()
            for call in self._calls.values():
                call.caller.close()
            for number, fd in enumerate(streams):
                os.dup2(fd, number)
                os.close(fd)
            os.environ.pop("TERM", None)
            if terminal:
                os.environ["TERM"] = terminal
            status = program.outcome(argv)
            answer = forked.FAILED if status is None else forked.ENDED
            caller.settimeout(None)
            caller.sendall(answer + bytes([status or 0]))
        except Exception:  # noqa: BLE001 - nothing above may go on
            sys.excepthook(*sys.exc_info())
        finally:
            os._exit(0)


def _request(caller: socket.socket, streams: list[int]) -> list[str]:
    """Return what a caller wants: TERM, and the words of a session.

    The descriptors that come with it are added to ``streams``.

    :raises ValueError: it makes no sense
    :raises OSError: it does not come
    """
    wanted = (0, 1, 2)
    length, fds, _, _ = socket.recv_fds(caller, forked.LENGTH, len(wanted))
    streams += fds
    left = int.from_bytes(length, sys.byteorder)
    if len(length) < forked.LENGTH or left > forked.LARGEST:
        raise ValueError(length)
    if len(fds) != len(wanted):
        raise ValueError(fds)
    content = bytearray()
    while len(content) < left:
        piece = caller.recv(left - len(content))
        if not piece:
            raise ConnectionError
        content += piece
    return [os.fsdecode(bytes(word)) for word in content.split(b"\0")[:-1]]
