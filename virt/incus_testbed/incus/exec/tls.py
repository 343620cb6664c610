# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to an Incus daemon on another machine, by TLS 1.3.

What Incus' own client does was read in shared/tls/tls.go, client/util.go and
shared/tcp/ of Incus 6.0 to 7.0.  Different here: where a certificate is pinned,
no other one will do, and INCUS_INSECURE_TLS does not allow TLS 1.2.
"""

import select
import socket
import ssl
import time

from .api import Impostor, Late, Lost, NoCertificate, Unreachable
from .encrypted import Encrypted

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .address import TlsAddress

#: Seconds for one of a name's addresses to answer.
_CONNECT_LIMIT = 10.0
#: A machine that has vanished is noticed after about so many seconds; the pause
#: between two looks.
_SILENCE, _LOOK = 30, 3
#: A command's start, the wait for its end, and four streams.
_FOR_A_COMMAND = 6
#: Seconds for each of these to be ready, and for what the next one needs of it.
_STOCK_LIMIT, _TICKET_LIMIT = 3.0, 0.3
#: Bytes of a certificate's file that are read.
_LARGEST = 1 << 17
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
        #: By which the next connection can be quicker, and who will know one.
        self._session: ssl.SSLSession | None = None
        self._last: Encrypted | None = None
        self._ready: list[Encrypted] = []

    def stock_up(self) -> bool:
        """Have a connection ready; tell whether a command needs more.

        :raises Failure: as Address.connect()
        """
        connection = self._connected(_STOCK_LIMIT)
        self._ready.append(connection)
        if not connection.resumed:
            # What makes the next ones quick comes now.
            select.select([connection], [], [], _TICKET_LIMIT)
        return connection.is_silent() and len(self._ready) < _FOR_A_COMMAND

    def let_go(self) -> None:
        """Leave the connections that are ready to another process."""
        for connection in self._ready:
            connection.let_go()
        self._ready.clear()

    def connect(self, limit: float) -> Encrypted:
        """Return a connection, as Address has it."""
        while self._ready:
            connection = self._ready.pop()
            if connection.is_silent():
                connection.settimeout(limit)
                return connection
            connection.close()
        return self._connected(limit)

    def _connected(self, limit: float) -> Encrypted:
        deadline = time.monotonic() + limit
        if not self._session and self._last:
            self._session = self._last.session()
        try:
            connection = Encrypted(
                _reached(self._address, deadline),
                self._context,
                _encoded(self._address.host),
                self._session,
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
        if not connection.resumed:
            self._session, self._last = None, connection
        return connection

    def _shake_hands(self, connection: Encrypted, limit: float) -> None:
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


def _reached(address: "TlsAddress", deadline: float) -> socket.socket:
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
    with _Readable(f"{address.certificate} or {address.key}"):
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
        with _Readable(address.pinned):
            context.load_verify_locations(cadata=pinned)
    elif address.authorities:
        with _Readable(address.authorities):
            context.load_verify_locations(address.authorities)
    else:
        context.load_default_certs()
    return context


class _Readable:
    """Says what can't be read; contextlib would take long to import."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: object, error: BaseException | None, trace: object
    ) -> None:
        if isinstance(error, ssl.SSLError):
            raise NoCertificate(
                f"{self._what} does not hold what it should: {error.reason}"
            ) from None
        if isinstance(error, OSError):
            raise NoCertificate(
                f"{self._what} can't be read: {error.strerror}"
            ) from None


def _no_password() -> str:
    raise NoCertificate(
        "The client's key has a password, which incus alone can ask for"
    )


def _pinned(path: str) -> bytes:
    """Return the first certificate of a file, without its PEM armour.

    :raises NoCertificate: there is none to read
    """
    with _Readable(path), open(path, encoding="latin-1") as file:  # noqa: PTH123
        text = file.read(_LARGEST)
    start = max(0, text.find(ssl.PEM_HEADER))
    end = text.find(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)
    try:
        return ssl.PEM_cert_to_DER_cert(text[start:end])
    except ValueError:
        raise NoCertificate(f"{path} holds no certificate") from None
