# SPDX-License-Identifier: GPL-3.0-or-later
"""Where operations are cut short, and what has to hold there afterwards."""

import json
import os
import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from incus_testbed.image import profiles, properties
from incus_testbed.incus.client import Incus
from tests.support import daemon

#: Seconds in which all has to come to rest after a crash.
_REST = 120
#: Environment variable by which descendants are known; the prefix is one of
#: those that are handed on to every child.
_MARK = "INCUS_FAULTS"


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """A project where nothing else goes on, and folders of its own.

    ``images`` are the aliases that may be there.
    """

    incus: Incus
    folder: Path
    images: frozenset[str]
    mark: str

    @classmethod
    def make(
        cls, incus: Incus, folder: Path, images: frozenset[str]
    ) -> "Workspace":
        """Make the folders: temporary files, locks, a tree to copy."""
        for name in ("tmp", "cache", "tree"):
            (folder / name).mkdir(exist_ok=True)
        for number in range(200):
            (folder / "tree" / str(number)).write_bytes(bytes(5000))
        return cls(
            incus=incus,
            folder=folder,
            images=images,
            mark=secrets.token_hex(8),
        )

    def environment(self) -> dict[str, str]:
        """Return the environment of everything that is started here."""
        return {
            **os.environ,
            "TMPDIR": str(self.folder / "tmp"),
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            _MARK: self.mark,
        }

    def processes(self) -> list[str]:
        """Return the command lines of what was started here and still runs."""
        mark = f"{_MARK}={self.mark}".encode()
        return [
            _read(process / "cmdline").replace(b"\0", b" ").decode()
            for process in Path("/proc").glob("[0-9]*")
            if mark in _read(process / "environ").split(b"\0")
        ]

    def settle(self) -> None:
        """Wait until nothing goes on any more, then collect garbage.

        What a killed process had asked the daemon for is done regardless.
        """
        _wait_until(lambda: not self.processes(), "processes end")
        _wait_until(daemon.is_running, "Incus answers")
        # A new daemon can't start a bridge while a network card of the machine
        # goes away, and tries it again after a minute.
        _wait_until(self._has_networks, "the networks of Incus are up")
        _wait_until(lambda: not self._under_way(), "operations of Incus end")
        subprocess.run(
            [sys.executable, "-m", "incus_testbed", "gc"],
            env=self.environment(),
            stdout=subprocess.DEVNULL,
            check=True,
            timeout=_REST,
        )

    def broken(self) -> Iterator[str]:
        """Say of everything that has to hold, and does not, what is wrong."""
        for record in self.incus.instances():
            yield f"instance {record.name} is left"
        for image in self.incus.images():
            if owner := properties.unfinished_by(image):
                yield f"image {image.fingerprint} is unfinished, of {owner}"
            if image.claims:
                yield f"{image.fingerprint} has claims: {image.claims}"
            if image.aliases and image.profiles != (profiles.USUAL,):
                yield f"{image.aliases} stands for half an image"
            if not self.images.issuperset(image.aliases):
                yield f"{image.aliases} was not asked for"
        for path in (self.folder / "tmp").glob("*"):
            yield f"{path} is left"
        for process in self.processes():
            yield f"{process} still runs"

    def _has_networks(self) -> bool:
        return all(
            network["status"] == "Created"
            for network in self.incus.networks()
            if network["managed"]
        )

    def _under_way(self) -> list[str]:
        operations = json.loads(
            self.incus.run("operation", "list", "--format=json")
        )
        return [
            operation["description"]
            for operation in operations
            if operation["status"] in {"Pending", "Running", "Cancelling"}
        ]


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + _REST
    while not holds():
        assert time.monotonic() < deadline, f"not within {_REST} s: {what}"
        time.sleep(0.05)
