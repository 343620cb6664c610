# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debusine server, as its users see it: artifacts and work requests."""

import contextlib
import http.client
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import yaml

from tests.e2e.guest import Guest
from tests.e2e.worker import Host

#: Debusine takes no artifact from a server whose name has no dot.
NAME = "debusine.test"

_SCOPE = "debusine"
_WORKSPACE = "System"
#: Seconds for one work request.
_LIMIT = 900
#: Seconds until a worker that is idle has begun with one, and tries.
_PATIENCE = 20
_ATTEMPTS = 3
_DEBUG_LOGS = "debusine:work-request-debug-logs"


class RequestFailed(Exception):
    """A work request did not end as it should; says what its logs say."""


@dataclass(frozen=True)
class WorkRequest:
    """A work request, as the server told of it last."""

    fields: dict[str, Any]

    @property
    def number(self) -> int:
        """Its id."""
        return int(self.fields["id"])

    @property
    def pending(self) -> bool:
        """Tell whether it waits for a worker."""
        return bool(self.fields["status"] == "pending")

    @property
    def ended(self) -> bool:
        """Tell whether nothing more will happen to it."""
        return self.fields["status"] in {"completed", "aborted"}

    @property
    def result(self) -> str:
        """Its result: success, failure or error; empty before the end."""
        return str(self.fields["result"])

    @property
    def started(self) -> datetime:
        """The time when a worker began with it."""
        return datetime.fromisoformat(self.fields["started_at"])

    @property
    def seconds(self) -> float:
        """The time that a worker spent on it."""
        end = datetime.fromisoformat(self.fields["completed_at"])
        return (end - self.started).total_seconds()


class Debusine:
    """The server in a guest, spoken to as its administrator."""

    def __init__(
        self,
        guest: Guest,
        token: str,
        *,
        worker: Host | None = None,
        limit: float = _LIMIT,
        patience: float = _PATIENCE,
    ) -> None:
        """Let the guest's debusine command use the token too.

        ``worker`` is the machine of the only worker, if that is another;
        ``limit`` and ``patience`` are seconds for one work request, and until
        the worker has begun with it.
        """
        self._guest = guest
        self._worker = worker or guest
        self._limit, self._patience = limit, patience
        self._token = token
        self._address = guest.address
        self._write(
            "/root/.config/debusine/client/config.ini",
            f"""\
[General]
default-server = here
[server:here]
api-url = http://{NAME}/api
scope = {_SCOPE}
token = {token}
""",
        )

    def create_artifact(
        self, category: str, data: Mapping[str, Any], file: str
    ) -> int:
        """Upload a file of the guest as an artifact; return its id."""
        self._write("/root/artifact.yaml", json.dumps(data))
        return self._artifact(
            *("create-artifact", category, "--data", "/root/artifact.yaml"),
            *("--upload-base-directory", str(Path(file).parent)),
            *("--upload", file, "--workspace", _WORKSPACE),
        )

    def import_source(self, dsc: str) -> int:
        """Upload a source package of the guest; return its artifact's id."""
        return self._artifact(
            "import-debian-artifact", "--workspace", _WORKSPACE, dsc
        )

    def submit(self, task: str, data: Mapping[str, Any]) -> WorkRequest:
        """Make a work request; return once the worker has begun with it."""
        body = {
            "task_name": task,
            "task_data": data,
            "workspace": _WORKSPACE,
            "event_reactions": {},
        }
        made = WorkRequest(self._ask("POST", "work-request/", body))
        return self._begun(made)

    def wait(self, request: WorkRequest) -> WorkRequest:
        """Wait for the end of a work request, whatever that is."""
        request = self._begun(request)
        deadline = time.monotonic() + self._limit
        while not request.ended:
            if time.monotonic() > deadline:
                raise RequestFailed(
                    f"no end after {self._limit} s\n{self.evidence(request)}"
                )
            time.sleep(0.5)
            request = self.look(request)
        return request

    def look(self, request: WorkRequest) -> WorkRequest:
        """Return a work request as it is now."""
        return WorkRequest(self._ask("GET", f"work-request/{request.number}/"))

    def settle(self) -> WorkRequest:
        """Wait until no work request runs or waits; return the newest.

        In place of a request that its worker has lost, Debusine 0.11 makes
        another; 0.16 has the worker begin again.
        """
        listed = self._ask("GET", "work-request/")["results"]
        for request in sorted(map(WorkRequest, listed), key=lambda r: r.number):
            if not request.ended:
                self.wait(request)
                return self.settle()
        return request

    def complete(
        self, task: str, data: Mapping[str, Any], *, result: str = "success"
    ) -> WorkRequest:
        """Make a work request and wait for its end.

        :raises RequestFailed: it ended with another result
        """
        request = self.wait(self.submit(task, data))
        if request.result != result:
            raise RequestFailed(
                f"{task} ended with {request.result or request.fields}\n"
                f"{self.evidence(request)}"
            )
        return request

    def artifacts(self, request: WorkRequest) -> dict[str, int]:
        """Return the ids of a request's artifacts by category."""
        return {
            self._ask("GET", f"artifact/{number}/")["category"]: number
            for number in request.fields["artifacts"]
        }

    def download(self, artifact: int) -> str:
        """Download an artifact; return the guest's folder that it is in."""
        target = f"/root/artifact-{artifact}"
        self._guest.run("mkdir", "-p", target)
        self._guest.run(
            *("debusine", "download-artifact", str(artifact)),
            *("--target-directory", target),
        )
        return target

    def files(self, artifact: int) -> dict[str, str]:
        """Return the ends of the files of an artifact, by name."""
        target = self.download(artifact)
        names = self._guest.run("find", target, "-type", "f", "-printf", "%P\n")
        return {
            name: self._guest.run("tail", "-n", "40", f"{target}/{name}")
            for name in names.splitlines()
        }

    def _begun(self, request: WorkRequest) -> WorkRequest:
        """Wait until the worker has begun with a work request.

        Debusine 0.11 now and then tells a worker of a request before the
        worker can see it, and never again unless it connects anew.
        """
        for attempt in range(_ATTEMPTS):
            if attempt:
                self._worker.run("systemctl", "restart", "debusine-worker")
            deadline = time.monotonic() + self._patience
            while time.monotonic() < deadline:
                if not request.pending:
                    return request
                time.sleep(0.5)
                request = self.look(request)
        raise RequestFailed(f"it is not begun\n{self.evidence(request)}")

    def evidence(self, request: WorkRequest) -> str:
        """Return what the worker and the request's debug logs say."""
        return "\n".join(self._evidence(request))

    def _evidence(self, request: WorkRequest) -> Iterator[str]:
        yield json.dumps(request.fields, indent=2)
        yield "-- worker"
        yield self._worker.run(
            *("journalctl", "--unit=debusine-worker", "--no-pager"),
            *("--lines=100", "--output=cat"),
        )
        logs = self.artifacts(request).get(_DEBUG_LOGS)
        for name, text in self.files(logs).items() if logs else ():
            yield f"-- {name}"
            yield text

    def _artifact(self, *arguments: str) -> int:
        said = yaml.safe_load(self._guest.run("debusine", *arguments))
        return int(said["artifact_id"])

    def _write(self, path: str, text: str) -> None:
        script = 'umask 077; mkdir -p "${1%/*}"; printf %s "$2" >"$1"'
        self._guest.run("sh", "-c", script, "sh", path, text)

    def _ask(self, method: str, path: str, body: object = None) -> Any:
        connection = http.client.HTTPConnection(self._address, timeout=60)
        with contextlib.closing(connection):
            connection.request(
                method,
                f"/api/1.0/{path}",
                body=json.dumps(body) if body else None,
                headers={
                    "Host": NAME,
                    "Token": self._token,
                    "X-Debusine-Scope": _SCOPE,
                    "Content-Type": "application/json",
                },
            )
            response = connection.getresponse()
            answer = response.read()
        if response.status >= http.client.BAD_REQUEST:
            raise RequestFailed(
                f"{method} {path}: {response.status}"
                f" {answer.decode(errors='replace')}"
            )
        return json.loads(answer)
