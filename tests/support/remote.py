# SPDX-License-Identifier: GPL-3.0-or-later
"""An Incus that is reached as a remote, over TLS, from this same machine.

    python3 -m tests.support.remote COMMAND...

runs COMMAND with a private Incus that all clients reach as a remote alone, and
exits with its status.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support import daemon

NAME = "far"
#: Generous: it only keeps a hanging test from hanging the run.
_LIMIT = 60


def certificate(folder: Path, name: str = "client") -> Path:
    """Make a certificate that has signed itself; return its path.

    The key is beside it, with the suffix .key.
    """
    path = folder / f"{name}.crt"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-nodes"),
            *("-pkeyopt", "ec_paramgen_curve:P-384", "-subj", f"/CN={name}"),
            *("-keyout", str(path.with_suffix(".key")), "-out", str(path)),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=_LIMIT,
        check=True,
    )
    return path


@contextlib.contextmanager
def configured(admin: dict[str, str]) -> Iterator[dict[str, str]]:
    """Have an Incus listen, and trust a client; give the client's environment.

    ``admin`` is the environment that reaches it by its socket.
    """
    with tempfile.TemporaryDirectory(prefix="remote-") as name:
        folder = Path(name)
        own = certificate(folder)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            where = f"127.0.0.1:{free.getsockname()[1]}"
        _incus(admin, "config", "set", f"core.https_address={where}")
        _incus(admin, "config", "trust", "add-certificate", str(own))
        pinned = folder / f"servercerts/{NAME}.crt"
        pinned.parent.mkdir()
        pinned.write_bytes(Path(admin["INCUS_DIR"], "server.crt").read_bytes())
        (folder / "config.yml").write_text(
            f"default-remote: {NAME}\n"
            "remotes:\n"
            f"  {NAME}: {{addr: 'https://{where}', protocol: incus,"
            " auth_type: tls}\n"
        )
        try:
            # Nothing may go another way.
            nowhere = str(folder / "no-socket")
            yield {"INCUS_CONF": name, "INCUS_SOCKET": nowhere}
        finally:
            _incus(admin, "config", "unset", "core.https_address")


def _incus(environment: dict[str, str], *words: str) -> None:
    subprocess.run(
        ["incus", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env={**os.environ, **environment},
        timeout=_LIMIT,
        check=True,
    )


def main() -> int:
    """Run the command line; give its exit status."""
    signal.signal(signal.SIGTERM, daemon.on_sigterm)
    with daemon.private() as incus, configured(incus.environment) as client:
        os.environ.update(client)
        return daemon.run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
