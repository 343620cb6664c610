# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to an Incus daemon on another machine, by TLS 1.3.

What Incus' own client does was read in shared/tls/tls.go, client/util.go and
shared/tcp/ of Incus 6.0 to 7.0.  Different here: where a certificate is pinned,
no other one will do, and INCUS_INSECURE_TLS does not allow TLS 1.2.

The encryption works in memory (ssl.MemoryBIO), and the socket is our own: with
ssl.SSLSocket a daemon's end would be a SIGPIPE to this process, and decrypted
bytes could wait where poll() does not see them.
"""

import contextlib
import socket
import ssl
import time

from .api import Impostor, Late, Lost, NoCertificate, Stranger, Unreachable
from .connection import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from .address import TlsAddress

#: Seconds for one of a name's addresses to answer.
_CONNECT_LIMIT = 10.0
#: A machine that has vanished is noticed after about so many seconds; the pause
#: between two looks.
_SILENCE, _LOOK = 30, 3
#: Bytes that are read, and encrypted, at a time.
_CHUNK = 1 << 17
#: X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which ssl has no name for.
_NO_CHECK_TIME = 0x200000


class Client:
    """What the connections to one address have in common."""

    def __init__(self, address: "TlsAddress") -> None:
        """Read the certificates.

        :raises NoCertificate: they can't be read, or are no certificates
        """
        self._address = address
        self._pinned = _pinned(address.pinned) if address.pinned else None
        self._context = _context(address, self._pinned)
        self._last: Encrypted | None = None

    def connect(self, limit: float) -> "Encrypted":
        """Return a connection, as Address has it."""
        deadline = time.monotonic() + limit
        try:
            connection = Encrypted(
                _connected(self._address, deadline),
                self._context,
                _encoded(self._address.host),
                self._last.session() if self._last else None,
            )
        except TimeoutError:
            raise Late(f"no connection within {limit:g} s") from None
        try:
            connection.settimeout(max(0.001, deadline - time.monotonic()))
            self._shake_hands(connection, limit)
        except BaseException:
            connection.close()
            raise
        connection.settimeout(limit)
        self._last = connection
        return connection

    def _shake_hands(self, connection: "Encrypted", limit: float) -> None:
        where = self._address
        try:
            connection.shake_hands()
        except ssl.SSLCertVerificationError as error:
            raise self._impostor(error.verify_message) from None
        except ssl.SSLError as error:
            raise Unreachable(
                f"{where} does not speak TLS 1.3: {error.reason or error}"
            ) from None
        except TimeoutError:
            raise Late(f"no TLS with {where} within {limit:g} s") from None
        except OSError as error:
            raise Lost(f"lost {where}: {error}") from None
        if self._pinned and connection.certificate() != self._pinned:
            raise self._impostor("it is another one")

    def _impostor(self, why: str) -> Impostor:
        where = self._address
        expected = (
            f"not the one in {where.pinned}"
            if self._pinned
            else f"not one of {where.host} by an authority in"
            f" {where.authorities or 'the system'}"
        )
        return Impostor(f"The certificate of {where} is {expected}: {why}")


def _encoded(host: str) -> bytes:
    """Return a host's name as DNS has it.

    The codec idna takes longer to import than all else.
    """
    return host.encode("ascii" if host.isascii() else "idna")


def _connected(address: "TlsAddress", deadline: float) -> socket.socket:
    """Connect to the first of a name's addresses that answers.

    :raises Unreachable: there is none
    :raises TimeoutError: none has answered in time
    """
    try:
        # This has the time limits of resolv.conf(5) alone.
        found = socket.getaddrinfo(
            _encoded(address.host), address.port, type=socket.SOCK_STREAM
        )
    except (OSError, UnicodeError) as error:
        raise Unreachable(
            f"Unable to connect to: {address}: lookup {address.host}: {error}"
        ) from None
    why: OSError | None = None
    for family, kind, protocol, _, place in found:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        connection = socket.socket(family, kind, protocol)
        try:
            connection.settimeout(min(left, _CONNECT_LIMIT))
            connection.connect(place)
        except OSError as error:
            connection.close()
            why = error
            continue
        _notice_silence(connection)
        return connection
    if isinstance(why, TimeoutError) and time.monotonic() >= deadline:
        raise why
    raise Unreachable(f"Unable to connect to: {address}: {why}")


def _notice_silence(connection: socket.socket) -> None:
    """Have the kernel end a connection to a machine that does not answer.

    And have it send small messages at once.
    """
    tcp = socket.IPPROTO_TCP
    connection.setsockopt(tcp, socket.TCP_NODELAY, 1)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(tcp, socket.TCP_KEEPIDLE, _LOOK)
    connection.setsockopt(tcp, socket.TCP_KEEPINTVL, _LOOK)
    connection.setsockopt(tcp, socket.TCP_KEEPCNT, _SILENCE // _LOOK)
    connection.setsockopt(tcp, socket.TCP_USER_TIMEOUT, _SILENCE * 1000)


def _context(address: "TlsAddress", pinned: bytes | None) -> ssl.SSLContext:
    """Return what says how both sides are proven.

    :raises NoCertificate: a file can't be read, or makes no sense
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # verifies all
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # A connection that was cut is not one that has ended.
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
    with _readable(f"{address.certificate} or {address.key}"):
        context.load_cert_chain(
            address.certificate, address.key, password=_no_password
        )
    if pinned:
        # The whole certificate is compared, so that its name and dates, and
        # who has signed it, tell nothing more.
        context.check_hostname = False
        context.verify_flags |= ssl.VerifyFlags(
            ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME
        )
        with _readable(address.pinned):
            context.load_verify_locations(cadata=pinned)
    elif address.authorities:
        with _readable(address.authorities):
            context.load_verify_locations(address.authorities)
    else:
        context.load_default_certs()
    return context


@contextlib.contextmanager
def _readable(what: str) -> "Iterator[None]":
    try:
        yield
    except ssl.SSLError as error:
        raise NoCertificate(
            f"{what} does not hold what it should: {error.reason}"
        ) from None
    except OSError as error:
        raise NoCertificate(f"{what} can't be read: {error.strerror}") from None


def _no_password() -> str:
    raise NoCertificate(
        "The client's key has a password, which incus alone can ask for"
    )


def _pinned(path: str) -> bytes:
    """Return the first certificate of a file, without its PEM armour.

    :raises NoCertificate: there is none to read
    """
    with _readable(path), open(path, encoding="latin-1") as file:  # noqa: PTH123
        text = file.read(_CHUNK)
    start = max(0, text.find(ssl.PEM_HEADER))
    end = text.find(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)
    try:
        return ssl.PEM_cert_to_DER_cert(text[start:end])
    except ValueError:
        raise NoCertificate(f"{path} holds no certificate") from None


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

        It comes with the first answer, and saves two thirds of the time.
        """
        session = self._tls.session
        return session if session and session.has_ticket else None

    @property
    def idle(self) -> bool:
        """Whether all that send() has taken is on its way."""
        return not self._unsent

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
                with contextlib.suppress(OSError):  # tell it why
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
            with contextlib.suppress(OSError):
                self.recv(_CHUNK)  # the server may have said why
            raise

    def recv(self, size: int) -> bytes:
        """Return all that has come, so that nothing waits here unseen."""
        deadline = time.monotonic() + self._limit
        while True:
            data = self._decrypted()
            # The protocol itself may have something to say, though what can't
            # be said does not stop what can be read.
            with contextlib.suppress(OSError):
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
            with contextlib.suppress(OSError):
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
        with contextlib.suppress(OSError, ValueError):
            self.settimeout(0)
            self._tls.unwrap()
        with contextlib.suppress(OSError):
            self._push(0)
        super().close()
