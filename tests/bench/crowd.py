# SPDX-License-Identifier: GPL-3.0-or-later
"""Many images and stopped instances, made and removed over Incus' socket.

An image has 1 kB, an instance an empty volume: Incus has as much to say of them
as of others.
"""

import contextlib
import functools
import http.client
import io
import json
import os
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from incus_testbed.image import metadata

#: Requests at a time.
_WORKERS = 8
#: Seconds for one of them.
_LIMIT = 300


class _Connection(http.client.HTTPConnection):
    """A connection to the daemon's socket."""

    def connect(self) -> None:
        """Connect."""
        self.sock = connected()


def connected() -> socket.socket:
    """Return a connection to the daemon."""
    connection = socket.socket(socket.AF_UNIX)
    connection.settimeout(_LIMIT)
    directory = os.environ.get("INCUS_DIR") or "/var/lib/incus"
    connection.connect(f"{directory}/unix.socket")
    return connection


@dataclass(frozen=True, kw_only=True)
class Crowd:
    """So many images, and instances with names and keys, in a project."""

    project: str
    images: int
    instances: Sequence[str]
    keys: Mapping[str, str]

    @contextlib.contextmanager
    def made(self) -> Iterator[None]:
        """Make them; remove the instances at the end, which takes long."""
        try:
            _each(self._add_image, range(self.images))
            _each(self._add_instance, self.instances)
            yield
        finally:
            _each(self._remove_instance, self.instances)

    def _add_image(self, number: int) -> None:
        made = self._do("images", _image(number), "application/octet-stream")
        target = made["metadata"]["fingerprint"]
        alias = {"name": f"others/{number}", "target": target}
        self._do("images/aliases", json.dumps(alias).encode())

    def _add_instance(self, name: str) -> None:
        wanted = {
            "name": name,
            "source": {"type": "none"},
            "profiles": ["debusine"],
            # Each with user ids of its own would take more than there are.
            "config": {"security.idmap.isolated": "false", **self.keys},
        }
        self._do("instances", json.dumps(wanted).encode())

    def _remove_instance(self, name: str) -> None:
        self._ask("DELETE", f"instances/{name}", b"", "")

    def _do(
        self, path: str, body: bytes, kind: str = "application/json"
    ) -> dict[str, Any]:
        """Have something made; return the operation that made it."""
        answer = self._ask("POST", path, body, kind)
        if answer["type"] == "async":
            wait = f"operations/{answer['metadata']['id']}/wait"
            answer = self._ask("GET", wait, b"", "")
        made: dict[str, Any] = answer["metadata"] or {}
        assert answer["type"] == "sync", answer
        assert made.get("status_code", 200) == 200, made
        return made

    def _ask(
        self, method: str, path: str, body: bytes, kind: str
    ) -> dict[str, Any]:
        connection = _Connection("incus")
        with contextlib.closing(connection):
            place = f"/1.0/{path}?project={quote(self.project, safe='')}"
            connection.request(method, place, body, {"Content-Type": kind})
            answer: dict[str, Any] = json.loads(connection.getresponse().read())
        return answer


def _each(act: Callable[[Any], None], things: Iterable[object]) -> None:
    with ThreadPoolExecutor(_WORKERS) as pool:
        for done in [pool.submit(act, thing) for thing in things]:
            done.result()


@functools.cache
def _architecture() -> str:
    return subprocess.check_output(
        ["dpkg", "--print-architecture"], text=True
    ).strip()


def _image(number: int) -> bytes:
    """Return an image in one file: its metadata, and an empty rootfs."""
    head = metadata.metadata_tar(
        architecture=_architecture(),
        creation_date=int(time.time()),
        profile="debusine",
        description=f"of others, {number}",
        vendor="debian",
        codename="trixie",
        artifact_id=str(number),
    )
    whole = io.BytesIO()
    with (
        tarfile.open(fileobj=io.BytesIO(head)) as parts,
        tarfile.open(fileobj=whole, mode="w") as tar,
    ):
        for member in parts:
            tar.addfile(member, parts.extractfile(member))
        root = tarfile.TarInfo("rootfs")
        root.type = tarfile.DIRTYPE
        tar.addfile(root)
    return whole.getvalue()
