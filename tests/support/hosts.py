# SPDX-License-Identifier: GPL-3.0-or-later
"""Several machines that share one Incus, which is a remote for each.

A machine is a mount namespace with a machine-id of its own.  It has an own home
for locks and for the incus command, whose only remote is the Incus under test,
by TLS on the loopback interface.
"""

import contextlib
import os
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from incus_testbed.incus.client import Incus

REMOTE = "far"
_ADDRESS = "core.https_address"
_ENTER = 'mount --bind "$1" /etc/machine-id; shift; exec "$@"'
_ID = """
from incus_testbed.ownership.owner import Owner
print(Owner.current().host_id)
"""


@dataclass(frozen=True)
class Host:
    """One of the machines, whose files are in a folder."""

    folder: Path

    def start(self, *argv: str, **options: object) -> "subprocess.Popen[str]":
        """Start a command on it, with pipes for all that it reads and says.

        Its process is the command's own.
        """
        machine = str(self.folder / "machine-id")
        enter = ("unshare", "--mount", "sh", "-euc", _ENTER, "sh", machine)
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
            [*enter, *argv],
            text=True,
            env={
                **os.environ,
                "HOME": str(self.folder),
                "INCUS_CONF": str(self.folder),
                "PYTHONPATH": os.pathsep.join(sys.path),
                "XDG_CACHE_HOME": str(self.folder),
            },
            **{
                "stdin": subprocess.PIPE,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                **options,
            },
        )

    def python(
        self, script: str, *words: str, **options: object
    ) -> "subprocess.Popen[str]":
        """Start a script on it."""
        return self.start(sys.executable, "-c", script, *words, **options)

    def testbed(
        self, *words: str, **options: object
    ) -> "subprocess.Popen[str]":
        """Start the incus-testbed command on it."""
        command = (sys.executable, "-m", "incus_testbed", *words)
        return self.start(*command, **options)

    def id(self) -> str:
        """Return what incus-testbed calls it."""
        return ended(self.python(_ID)).strip()


def ended(process: "subprocess.Popen[str]", limit: float = 300) -> str:
    """Wait for a command that has to succeed; return its output."""
    output, said = process.communicate(timeout=limit)
    assert process.returncode == 0, said
    return output


@contextlib.contextmanager
def sharing(incus: Incus, folder: Path, *names: str) -> Iterator[list[Host]]:
    """Have machines of these names that share the server of a client."""
    with _listening(incus):
        trusted = []
        try:
            for name in names:
                trusted.append(f"host-{os.getpid()}-{name}")
                _make(incus, folder / name, trusted[-1])
            yield [Host(folder / name) for name in names]
        finally:
            for entry in incus.certificates():
                if entry["name"] in trusted:
                    fingerprint = entry["fingerprint"]
                    incus.run("config", "trust", "remove", fingerprint)


def _make(incus: Incus, folder: Path, name: str) -> None:
    """Make the files of a machine, whose certificate the server trusts."""
    folder.mkdir()
    (folder / "machine-id").write_text(f"{uuid.uuid4().hex}\n")
    token = incus.run("config", "trust", "add", name, "--quiet").decode()
    for words in (
        ("add", REMOTE, token.split()[-1]),
        ("switch", REMOTE),
    ):
        subprocess.run(
            ["incus", "remote", *words],
            check=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**os.environ, "INCUS_CONF": str(folder)},
            timeout=60,
        )


@contextlib.contextmanager
def _listening(incus: Incus) -> Iterator[None]:
    """Have the server listen on the loopback interface."""
    before = incus.run("config", "get", _ADDRESS).decode().strip()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    incus.run("config", "set", f"{_ADDRESS}={address}")
    try:
        yield
    finally:
        incus.run("config", "set", f"{_ADDRESS}={before}")
