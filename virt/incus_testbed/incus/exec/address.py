# SPDX-License-Identifier: GPL-3.0-or-later
"""Where an Incus daemon listens: at a unix socket, or at a TCP port with TLS.

An address is also options of a session's command line: options() writes them,
of() reads them.
"""

import socket
import time

from .api import Denied, Failure, Late, Unreachable
from .connection import Connection

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .tls import Client

#: Seconds between two tries to connect where too many others wait for that.
_PAUSE = 0.05


class Address:
    """Where a daemon listens; addresses with the same options are equal."""

    def options(self) -> list[str]:
        """Return it as options of a command line, which hold no secret."""
        raise NotImplementedError

    def connect(self, limit: float) -> Connection:
        """Return a connection to the daemon, within ``limit`` seconds.

        So many seconds are then the limit of each read and write.

        :raises Failure: nobody answers there, or not to us, or not in time
        """
        raise NotImplementedError

    def stock_up(self) -> bool:
        """Have a connection ready, where that takes time; tell if more help.

        A command uses several.  If it fails, connect() will say why.
        """
        return False

    def let_go(self) -> None:
        """Leave to another process the connections that are ready."""

    def __eq__(self, other: object) -> bool:
        """Tell whether it is the same daemon, reached in the same way."""
        return isinstance(other, Address) and self.options() == other.options()

    def __hash__(self) -> int:
        """Return the hash of what is compared."""
        return hash(tuple(self.options()))

    def __repr__(self) -> str:
        """Return what is compared."""
        return " ".join(self.options())


class UnixAddress(Address):
    """The path of a socket on this machine."""

    def __init__(self, path: str) -> None:
        """Have a daemon at that path."""
        self.path = path

    def __str__(self) -> str:
        """Return it for people."""
        return self.path

    def options(self) -> list[str]:
        """Return it as options of a command line."""
        return [f"--socket={self.path}"]

    def connect(self, limit: float) -> Connection:
        """Return a connection, as Address has it."""
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        connection.settimeout(limit)
        deadline = time.monotonic() + limit
        while not self._connected(connection):
            if time.monotonic() > deadline:
                raise Late(f"no connection within {limit:g} s")
            time.sleep(_PAUSE)
        return Connection(connection)

    def _connected(self, connection: socket.socket) -> bool:
        """Connect; return False where the daemon's queue is full.

        The kernel has no time limit for that wait: connect(2) either waits for
        ever or fails at once with EAGAIN (unix(7)).
        """
        try:
            connection.connect(self.path)
        except BlockingIOError:
            return False
        except PermissionError:
            raise Denied(
                "You don't have the needed permissions to talk to the Incus"
                f" daemon (socket path: {self.path})"
            ) from None
        except OSError as error:
            raise Unreachable(
                "The Incus daemon doesn't appear to be started"
                f" (socket path: {self.path}): {error}"
            ) from None
        return True


class TlsAddress(Address):
    """A port of a machine, and the files by which each side proves itself.

    ``certificate`` and ``key`` are the client's.  The server proves itself by
    the certificate in the file ``pinned``, or, if that is empty, by its name
    and an authority in the file ``authorities``, or, if that is empty too, by
    an authority that the system trusts.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        certificate: str,
        key: str,
        pinned: str = "",
        authorities: str = "",
    ) -> None:
        """Have a daemon at that port."""
        self.host = host
        self.port = port
        self.certificate = certificate
        self.key = key
        self.pinned = pinned
        self.authorities = authorities
        self._client: Client | None = None

    def __str__(self) -> str:
        """Return it for people."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    def options(self) -> list[str]:
        """Return it as options of a command line."""
        return [
            f"--server={self}",
            f"--certificate={self.certificate}",
            f"--key={self.key}",
            *([f"--pinned={self.pinned}"] if self.pinned else []),
            *(
                [f"--authorities={self.authorities}"]
                if self.authorities
                else []
            ),
        ]

    def connect(self, limit: float) -> Connection:
        """Return a connection, as Address has it."""
        return self._known_client().connect(limit)

    def stock_up(self) -> bool:
        """Have a connection ready, as Address has it."""
        try:
            return self._known_client().stock_up()
        except Failure:
            return False

    def let_go(self) -> None:
        """Leave the connections to another process, as Address has it."""
        if self._client:
            self._client.let_go()

    def _known_client(self) -> "Client":
        if not self._client:
            # Imported here: ssl takes a third as long as all the rest.
            from . import tls  # noqa: PLC0415

            self._client = tls.Client(self)
        return self._client


#: What of() has returned: a process has one client for each server.
_KNOWN: "dict[tuple[tuple[str, str], ...], Address]" = {}


def of(options: dict[str, str]) -> Address:
    """Return the address that options of a command line are."""
    key = tuple(sorted(options.items()))
    if key not in _KNOWN:
        _KNOWN[key] = _made(options)
    return _KNOWN[key]


def _made(options: dict[str, str]) -> Address:
    if "server" not in options:
        return UnixAddress(options["socket"])
    host, _, port = options["server"].rpartition(":")
    return TlsAddress(
        host.strip("[]"),
        int(port),
        certificate=options["certificate"],
        key=options["key"],
        pinned=options.get("pinned", ""),
        authorities=options.get("authorities", ""),
    )
