# SPDX-License-Identifier: GPL-3.0-or-later
"""A connection to the Incus daemon that is encrypted.

The encryption works in memory (ssl.MemoryBIO), and the socket is our own: with
ssl.SSLSocket a daemon's end would be a SIGPIPE to this process, and decrypted
bytes could wait where poll() does not see them.
"""

import socket
import ssl
import time

from .api import Stranger
from .connection import Connection

#: Bytes that are read, and encrypted, at a time.
_CHUNK = 1 << 17


class _Ignored:
    """Ends a block at an exception; contextlib would take long to import."""

    def __init__(self, *kinds: type[Exception]) -> None:
        """Ignore exceptions of these kinds."""
        self._kinds = kinds

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: object, error: BaseException | None, trace: object
    ) -> bool:
        """Tell whether it is ignored."""
        return isinstance(error, self._kinds)


def _trouble(error: ssl.SSLError) -> Exception:
    """Return what an error in reading stands for.

    With TLS 1.3, the server looks at the client's certificate when the client
    has done its part of the handshake.
    """
    reason = error.reason or ""
    if "ALERT" in reason and ("CERTIFICATE" in reason or "CA" in reason):
        return Stranger(f"The server refuses this client: {reason}")
    return ConnectionError(f"TLS: {reason or error}")


class Encrypted(Connection):
    """A connection that is encrypted."""

    def __init__(
        self,
        connection: socket.socket,
        context: ssl.SSLContext,
        name: bytes,
        session: ssl.SSLSession | None = None,
    ) -> None:
        """Take over a socket that is connected to the host of a name.

        ``session`` is that of an earlier connection to the same server.
        """
        super().__init__(connection)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_hostname=name,
            session=session,
        )
        self._limit = 0.0
        #: What is encrypted and not yet sent.
        self._unsent = memoryview(b"")
        self._trouble: Exception | None = None
        self._ended = False

    def certificate(self) -> bytes | None:
        """Return the certificate that the server has proven itself by."""
        return self._tls.getpeercert(binary_form=True)

    def session(self) -> ssl.SSLSession | None:
        """Return what lets both sides skip the proofs next time, if it is here.

        It comes with the first answer, and saves two thirds of the time.  To
        return it is half as long as a handshake with it, so one is kept.
        """
        session = self._tls.session
        return session if session and session.has_ticket else None

    @property
    def resumed(self) -> bool:
        """Whether the proofs were skipped, by an earlier session."""
        return bool(self._tls.session_reused)

    @property
    def idle(self) -> bool:
        """Whether all that send() has taken is on its way."""
        return not self._unsent

    def is_silent(self) -> bool:
        """Whether it is open, and the server has not said anything yet."""
        self.settimeout(0)
        try:
            self.recv(_CHUNK)
        except BlockingIOError:
            return True
        except (OSError, Stranger):
            return False
        return False

    def settimeout(self, limit: float) -> None:
        """Let each call take so many seconds; with 0 none blocks."""
        self._limit = limit
        super().settimeout(limit)

    def shake_hands(self) -> None:
        """Have both sides prove themselves.

        :raises ssl.SSLCertVerificationError: the server does not
        :raises OSError: it is lost, or too slow, or does not speak TLS
        """
        deadline = time.monotonic() + self._limit
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._push(deadline)
                self._take(deadline)
            except ssl.SSLError:
                with _Ignored(OSError):  # tell it why
                    self._push(deadline)
                raise
            else:
                self._push(deadline)
                return

    def send(self, data: bytes | memoryview) -> int:
        """Take as much as goes, as Connection does."""
        deadline = time.monotonic() + self._limit
        self._push(deadline)
        if not self.idle:
            raise BlockingIOError
        if not data:
            return 0
        sent = self._tls.write(data[:_CHUNK])
        self._push(deadline)
        return sent

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        left = memoryview(data)
        try:
            while left:
                left = left[self.send(left) :]
        except OSError:
            with _Ignored(OSError):
                self.recv(_CHUNK)  # the server may have said why
            raise

    def recv(self, size: int) -> bytes:
        """Return all that has come, so that nothing waits here unseen."""
        deadline = time.monotonic() + self._limit
        while True:
            data = self._decrypted()
            # The protocol itself may have something to say, though what can't
            # be said does not stop what can be read.
            with _Ignored(OSError):
                self._push(deadline)
            if data or self._ended:
                return data
            self._take(deadline, size)

    def _decrypted(self) -> bytes:
        if self._trouble:
            raise self._trouble
        pieces = []
        try:
            while not self._ended:
                piece = self._tls.read(_CHUNK)
                pieces.append(piece)
                self._ended = not piece
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._trouble = _trouble(error)
            if not any(pieces):
                raise self._trouble from None
        if self._ended or self._trouble:
            # poll() shall tell of it, even if the server sends nothing more.
            with _Ignored(OSError):
                self._socket.shutdown(socket.SHUT_RD)
        return b"".join(pieces)

    def _take(self, deadline: float, size: int = _CHUNK) -> None:
        """Take what has come, encrypted."""
        self._wait_until(deadline)
        data = self._socket.recv(size)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _push(self, deadline: float) -> None:
        """Send what is encrypted: all of it, or what goes without blocking."""
        if self._outgoing.pending:
            self._unsent = memoryview(
                bytes(self._unsent) + self._outgoing.read()
            )
        try:
            while self._unsent:
                self._wait_until(deadline)
                sent = super().send(self._unsent)
                self._unsent = self._unsent[sent:]
        except BlockingIOError:
            pass
        except OSError:
            self._unsent = memoryview(b"")
            raise

    def _wait_until(self, deadline: float) -> None:
        if self._limit:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self._socket.settimeout(left)

    def close(self) -> None:
        """Close it; tell the server, if that goes at once."""
        with _Ignored(OSError, ValueError):
            self.settimeout(0)
            self._tls.unwrap()
        with _Ignored(OSError):
            self._push(0)
        super().close()
