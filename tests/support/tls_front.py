# SPDX-License-Identifier: GPL-3.0-or-later
"""TLS in front of a unix socket, as a remote's daemon has it."""

import contextlib
import select
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

from incus_testbed.incus.exec.address import TlsAddress
from tests.support.listener import Listener

#: Generous: it only keeps a hanging test from hanging the run.
_LIMIT = 60
_CHUNK = 1 << 16


def certificate(
    folder: Path, name: str, *options: str, program: tuple[str, ...] = ()
) -> Path:
    """Make a certificate that has signed itself; return its path.

    The key is beside it, with the suffix .key.  ``options`` are those of
    openssl req, which ``program`` runs.
    """
    path = folder / f"{name}.crt"
    subprocess.run(
        [
            *(*program, "openssl", "req", "-x509", "-newkey", "ec", "-nodes"),
            *("-pkeyopt", "ec_paramgen_curve:P-384", "-subj", f"/CN={name}"),
            *("-keyout", str(path.with_suffix(".key")), "-out", str(path)),
            *options,
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_LIMIT,
        check=True,
    )
    return path


def server_context(server: Path, client: Path) -> ssl.SSLContext:
    """Return a server's side: it has a certificate, and expects the client's.

    Like Incus, it asks for one, and looks at it after the handshake.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(server, server.with_suffix(".key"))
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(client)
    return context


class Front:
    """Passes on to the socket at ``path`` what comes to a port."""

    def __init__(
        self, path: Path, context: ssl.SSLContext, *, ragged: bool = False
    ) -> None:
        """Listen; ``ragged``: end connections without a word, as a cut does."""
        self._path = path
        self._context = context
        self._ragged = ragged
        self.served: list[ssl.SSLSocket] = []
        listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = listening.getsockname()[1]
        self._listener = Listener(listening, self._serve)

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()

    def address(self, client: Path, **more: str) -> TlsAddress:
        """Return where it is, for a client with a certificate."""
        return TlsAddress(
            "127.0.0.1",
            self.port,
            certificate=str(client),
            key=str(client.with_suffix(".key")),
            **more,
        )

    def _serve(self, connection: socket.socket) -> None:
        connection.settimeout(_LIMIT)
        # As in Go. Small answers would wait 40 ms for the client's kernel.
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(OSError, ValueError), connection:
            outside = self._context.wrap_socket(connection, server_side=True)
            self.served.append(outside)
            with outside, socket.socket(socket.AF_UNIX) as inside:
                inside.connect(str(self._path))
                inside.settimeout(_LIMIT)
                _relay(outside, inside)
                if not self._ragged:
                    outside.settimeout(1)
                    outside.unwrap()


def _relay(outside: ssl.SSLSocket, inside: socket.socket) -> None:
    """Pass on data both ways, until the inner side ends."""
    heard: list[socket.socket] = [outside, inside]
    while True:
        ready: list[socket.socket] = [outside] if outside.pending() else []
        ready += select.select(heard, [], [], 0 if ready else _LIMIT)[0]
        if outside in ready:
            data = outside.recv(_CHUNK)
            if data:
                inside.sendall(data)
            else:
                heard.remove(outside)
                inside.shutdown(socket.SHUT_WR)
        if inside in ready:
            data = inside.recv(_CHUNK)
            if not data:
                return
            outside.sendall(data)


@contextlib.contextmanager
def silent() -> Iterator[int]:
    """Listen at a port and take connections, but never answer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]
