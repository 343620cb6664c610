# SPDX-License-Identifier: GPL-3.0-or-later
"""A web server that plays the part of Debusine that serves images.

It knows artifacts and work requests, as Debusine 0.11 and 0.16 describe them
to their clients, and can be told to fail in the ways that networks do.
"""

import contextlib
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TOKEN = "not-a-real-token"  # noqa: S105
_NOW = "2026-01-01T00:00:00+00:00"


class Broken(Exception):
    """Raised by a fault: the connection ends here."""


#: What happens to the answer with a file: is given the bytes that are to be
#: sent, a chunk at a time, and yields what is sent instead.
Fault = Callable[[Iterator[bytes]], Iterator[bytes]]


@dataclass
class File:
    """A file on the server, and what goes wrong at each request of it.

    ``elsewhere`` is the address that has it instead; ``public`` it may be had
    without a token.
    """

    content: bytes
    elsewhere: str = ""
    public: bool = False
    faults: list[Fault | HTTPStatus] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


class DebusineServer:
    """The server's state; tests change it as they like."""

    def __init__(self) -> None:
        """Know nothing, give whole files, and begin in their middle."""
        self.files: dict[int, File] = {}
        self.artifacts: dict[int, dict[str, Any]] = {}
        self.work_requests: dict[int, dict[str, Any]] = {}
        self.ranges = True
        self.tokens: list[str | None] = []
        self.url = ""

    @property
    def api_url(self) -> str:
        """Return what a client's configuration has."""
        return f"{self.url}/api"

    def add_artifact(
        self,
        number: int,
        content: bytes | Path,
        *,
        category: str = "debian:system-tarball",
        **data: object,
    ) -> File:
        """Serve a system tarball as an artifact."""
        if isinstance(content, Path):
            content = content.read_bytes()
        self.files[number] = File(content)
        self.artifacts[number] = {
            "id": number,
            "url": f"{self.url}/artifact/{number}/",
            "scope": "debusine",
            "workspace": "System",
            "category": category,
            "created_at": _NOW,
            "data": {
                "filename": "system.tar.zst",
                "vendor": "debian",
                "codename": "bookworm",
                "architecture": "amd64",
                "variant": "minbase",
                "with_dev": False,
                "with_init": True,
                **data,
            },
            "download_tar_gz_url": f"{self.url}/artifact/{number}.tar.gz",
            "files_to_upload": [],
            "files": {
                "system.tar.zst": {
                    "size": len(content),
                    "checksums": {
                        "sha256": hashlib.sha256(content).hexdigest()
                    },
                    "type": "file",
                    "url": f"{self.url}/file/{number}",
                }
            },
        }
        return self.files[number]

    def add_work_request(
        self, number: int, dynamic_task_data: dict[str, Any] | None
    ) -> None:
        """Know a work request, with what the server has found out for it."""
        self.work_requests[number] = {
            "id": number,
            "url": f"{self.url}/work-request/{number}/",
            "created_at": _NOW,
            "status": "completed",
            "result": "success",
            "task_type": "Worker",
            "task_name": "autopkgtest",
            "task_data": {},
            "dynamic_task_data": dynamic_task_data,
            "priority_base": 0,
            "priority_adjustment": 0,
            "artifacts": [],
            "workspace": "System",
        }

    def find(self, path: str) -> dict[str, Any] | None:
        """Return what the API has at a path."""
        kind, *where, number = path.removeprefix("/api/1.0/").split("/")
        if not number.isdigit() or where not in ([], ["System"]):
            return None
        things = {
            "artifact": self.artifacts,
            "work-request": self.work_requests,
        }.get(kind, {})
        return things.get(int(number))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    debusine: DebusineServer

    def do_GET(self) -> None:
        """Answer as Debusine would."""
        self.debusine.tokens.append(self.headers["Token"])
        file = None
        if self.path.startswith("/file/"):
            file = self.debusine.files[int(self.path.removeprefix("/file/"))]
        if self.headers["Token"] != TOKEN and not (file and file.public):
            self._answer(HTTPStatus.FORBIDDEN)
        elif file:
            self._send(file)
        elif found := self.debusine.find(self.path.rstrip("/")):
            self._answer(HTTPStatus.OK, json.dumps(found).encode())
        else:
            problem = json.dumps({"title": "Nothing matches the given query."})
            self._answer(
                HTTPStatus.NOT_FOUND,
                problem.encode(),
                "application/problem+json",
            )

    def _answer(
        self,
        status: HTTPStatus,
        content: bytes = b"",
        kind: str = "application/json",
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _send(self, file: File) -> None:
        wanted = self.headers["Range"] or ""
        file.requests.append(wanted)
        fault = file.faults.pop(0) if file.faults else None
        if isinstance(fault, HTTPStatus):
            self._answer(fault)
            return
        if file.elsewhere:
            self.send_response(HTTPStatus.FOUND)
            self.send_header("Location", file.elsewhere)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        begin = 0
        if wanted and self.debusine.ranges:
            begin = int(wanted.removeprefix("bytes=").rstrip("-"))
            self.send_response(HTTPStatus.PARTIAL_CONTENT)
        else:
            self.send_response(HTTPStatus.OK)
        self.send_header("Content-Length", str(len(file.content) - begin))
        self.end_headers()
        chunks = _chunks(file.content[begin:])
        try:
            for chunk in fault(chunks) if fault else chunks:
                self.wfile.write(chunk)
        except (Broken, OSError):
            self.close_connection = True

    def log_message(self, *words: object) -> None:
        """Say nothing."""


@contextlib.contextmanager
def running() -> Iterator[DebusineServer]:
    """Serve on the loopback interface, until the end of the block."""
    debusine = DebusineServer()
    handler = type("Handler", (_Handler,), {"debusine": debusine})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        debusine.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            yield debusine
        finally:
            server.shutdown()
            thread.join()


def _chunks(content: bytes) -> Iterator[bytes]:
    for start in range(0, len(content), 1 << 16):
        yield content[start : start + (1 << 16)]


def cut_after(size: int) -> Fault:
    """Break the connection after so many bytes."""

    def fault(chunks: Iterator[bytes]) -> Iterator[bytes]:
        left = size
        for chunk in chunks:
            yield chunk[:left]
            left -= len(chunk)
            if left <= 0:
                raise Broken

    return fault


def damaged_at(position: int) -> Fault:
    """Change one byte."""

    def fault(chunks: Iterator[bytes]) -> Iterator[bytes]:
        sent = 0
        for chunk in chunks:
            if sent <= position < sent + len(chunk):
                changed = bytearray(chunk)
                changed[position - sent] ^= 0x55
                yield bytes(changed)
            else:
                yield chunk
            sent += len(chunk)

    return fault


def held_after(size: int, event: threading.Event) -> Fault:
    """Send no more than so many bytes until the event."""

    def fault(chunks: Iterator[bytes]) -> Iterator[bytes]:
        sent = 0
        for chunk in chunks:
            if sent >= size:
                event.wait()
            yield chunk
            sent += len(chunk)

    return fault
