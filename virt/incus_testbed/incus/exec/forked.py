# SPDX-License-Identifier: GPL-3.0-or-later
"""Have the forkserver run a session; this is the caller's side.

It imports modules of C alone.  socket and signal have those inside, and would
take 5 ms more of the processor, where an empty Python takes 7.5 ms.
"""

import _signal  # type: ignore[import-not-found]
import _socket
import os
import sys
from array import array

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: The signals that are for the command.
FORWARDED = (
    _signal.SIGHUP,
    _signal.SIGINT,
    _signal.SIGQUIT,
    _signal.SIGTERM,
    _signal.SIGUSR1,
    _signal.SIGUSR2,
)
#: During an upgrade, callers of the newer version meet a forkserver of the
#: older one: what they say to each other must not change.
#: A request is so many bytes, their number in front, and with the first of them
#: descriptors 0, 1 and 2.  The bytes are words, each with a NUL at its end:
#: first TERM, empty if there is none, then those of the session.
LENGTH, LARGEST = 4, 8 << 20
#: An answer is one of these and the status.  The bytes that the caller sends
#: after the request are numbers of signals.
ENDED, FAILED = b"\0", b"\1"
#: struct ucred of unix(7): pid, uid and gid, each an int.
_CREDENTIALS, _UID = 12, slice(4, 8)


class Absent(Exception):
    """There is no such forkserver, or it is not for this caller."""


def address(name: str) -> str:
    """Return where the forkserver of a name listens.

    It is an abstract address (unix(7)), so that nothing is left behind.
    """
    return f"\0incus-testbed/{name}"


def is_mine(connection: "_socket.socket") -> bool:
    """Tell whether the process at the other end has this one's user.

    The name is no secret, and anybody may listen there once it is free.
    """
    credentials = connection.getsockopt(
        _socket.SOL_SOCKET, _socket.SO_PEERCRED, _CREDENTIALS
    )
    return int.from_bytes(credentials[_UID], sys.byteorder) == os.geteuid()


def settle() -> None:
    """Mend what the program that started this one may have handed down.

    Descriptors 0, 1 and 2 are open then, so that no socket gets their number,
    and SIGCHLD is not ignored, so that the status of children is not lost.
    """
    _signal.signal(_signal.SIGCHLD, _signal.SIG_DFL)
    fd = 0
    while fd <= 2:  # noqa: PLR2004
        fd = os.open("/dev/null", os.O_RDWR)
    os.close(fd)


def on_signals(handle: "_signal._HANDLER") -> None:
    """Handle the signals that are for the command, but those ignored."""
    for number in FORWARDED:
        if _signal.getsignal(number) != _signal.SIG_IGN:
            _signal.signal(number, handle)


def die(number: int) -> None:
    """End as this signal ends a process."""
    _signal.signal(number, _signal.SIG_DFL)
    os.kill(os.getpid(), number)


def outcome(name: str, argv: "Sequence[str]") -> int | None:
    """Have a session run, as program.outcome() does it.

    A terminal is left to this process: it would take the input of a process
    in the background for an error.

    :raises Absent: it has not begun
    """
    settle()
    if os.isatty(0):
        raise Absent
    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    words = [os.environ.get("TERM", ""), *argv]
    request = b"".join(os.fsencode(word) + b"\0" for word in words)
    length = len(request).to_bytes(LENGTH, sys.byteorder)
    streams = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array("i", (0, 1, 2)))]
    try:
        connection.connect(address(name))
        if not is_mine(connection):
            raise Absent
        connection.sendmsg([length], streams)
        connection.sendall(request)
    except OSError:
        raise Absent from None
    return _answer(connection)


def _answer(connection: "_socket.socket") -> int | None:
    """Forward signals until the session has ended; return its status."""
    forwarded = []

    def forward(number: int, _: object) -> None:
        forwarded.append(number)
        try:
            connection.send(bytes([number]), _socket.MSG_NOSIGNAL)
        except OSError:  # the session has ended
            return

    on_signals(forward)
    answer = b""
    while len(answer) < len(ENDED) + 1:
        try:
            piece = connection.recv(len(ENDED) + 1 - len(answer))
        except ConnectionError:
            piece = b""
        if not piece:
            _lost(forwarded)
            return None
        answer += piece
    return answer[1] if answer[:1] == ENDED else None


def _lost(forwarded: list[int]) -> None:
    """End by the signal that has ended the session, or say that it is lost."""
    for number in forwarded[-1:]:
        die(number)
    from .streams import complain  # noqa: PLC0415

    complain("the process that carries the command was killed")
