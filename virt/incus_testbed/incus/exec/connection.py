# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection to the Incus daemon, over a unix socket.

One that is encrypted (tls.py) has the same methods.
"""

import socket


class Connection:
    """A connection that may block, within a time limit, or never blocks."""

    def __init__(self, connection: socket.socket) -> None:
        """Take over a socket that is connected."""
        self._socket = connection

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._socket.fileno()

    @property
    def idle(self) -> bool:
        """Whether all that send() has taken is on its way."""
        return True

    def settimeout(self, limit: float) -> None:
        """Let each call take so many seconds; with 0 none blocks."""
        self._socket.settimeout(limit)

    def send(self, data: bytes | memoryview) -> int:
        """Take as much as goes; return how much.

        SIGPIPE is for output that nobody reads, not for a daemon's end.

        :raises BlockingIOError: nothing goes now
        :raises OSError: the daemon is lost, or too slow
        """
        return self._socket.send(data, socket.MSG_NOSIGNAL)

    def sendall(self, data: bytes) -> None:
        """Send all of it.

        :raises OSError: the daemon is lost, or too slow
        """
        self._socket.sendall(data, socket.MSG_NOSIGNAL)

    def recv(self, size: int) -> bytes:
        """Return what has come, about ``size`` bytes; nothing at the end.

        :raises BlockingIOError: nothing is there now
        :raises OSError: the daemon is lost, or too slow
        """
        return self._socket.recv(size)

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    def let_go(self) -> None:
        """Leave it to another process that has it, too: say nothing there."""
        self._socket.close()
