# SPDX-License-Identifier: GPL-3.0-or-later
"""An Incus that is reached as a remote, over TLS, from this same machine.

    python3 -m tests.support.remote COMMAND...

runs COMMAND with a private Incus that all clients reach as a remote alone, and
exits with its status.
"""

import contextlib
import hashlib
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

from tests.support import daemon
from tests.support.tls_front import certificate

NAME = "far"
#: Generous: it only keeps a hanging test from hanging the run.
_LIMIT = 60


@contextlib.contextmanager
def configured(admin: dict[str, str]) -> Iterator[dict[str, str]]:
    """Have an Incus listen, and trust a client; give the client's environment.

    ``admin`` is the environment that reaches the Incus by its socket.
    """
    before = json.loads(_incus(admin, "query", "local:/1.0"))
    with tempfile.TemporaryDirectory(prefix="remote-") as name:
        folder = Path(name)
        client = certificate(folder, f"client-{os.getpid()}")
        for suffix in (".crt", ".key"):
            client.with_suffix(suffix).rename(folder / f"client{suffix}")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            where = f"127.0.0.1:{free.getsockname()[1]}"
        pinned = folder / f"servercerts/{NAME}.crt"
        pinned.parent.mkdir()
        pinned.write_text(before["environment"]["certificate"])
        (folder / "config.yml").write_text(
            f"default-remote: {NAME}\n"
            "remotes:\n"
            f"  {NAME}: {{addr: 'https://{where}', protocol: incus,"
            " auth_type: tls}\n"
        )
        _listen(admin, where)
        own = str(folder / "client.crt")
        _incus(admin, "config", "trust", "add-certificate", "local:", own)
        try:
            # Nothing may go another way.
            nowhere = str(folder / "no-socket")
            yield {"INCUS_CONF": name, "INCUS_SOCKET": nowhere}
        finally:
            _incus(admin, "config", "trust", "remove", _fingerprint(own))
            _listen(admin, before["config"].get("core.https_address", ""))


def _listen(admin: dict[str, str], where: str) -> None:
    _incus(admin, "config", "set", "local:", f"core.https_address={where}")


def _fingerprint(certificate: str) -> str:
    encoded = ssl.PEM_cert_to_DER_cert(Path(certificate).read_text())
    return f"local:{hashlib.sha256(encoded).hexdigest()}"


def _incus(environment: dict[str, str], *words: str) -> str:
    return subprocess.run(
        ["incus", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, **environment},
        timeout=_LIMIT,
        check=True,
        text=True,
    ).stdout


def main() -> int:
    """Run the command line; give its exit status."""
    signal.signal(signal.SIGTERM, daemon.on_sigterm)
    with (
        daemon.private() as incus,
        configured(incus.environment) as client,
        patch.dict(os.environ, client),
    ):
        return daemon.run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
