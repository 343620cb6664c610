# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions to the Incus server: by the daemon's socket, or by incus query.

The socket answers in a tenth of the time that the incus command takes.
"""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from incus_testbed import errors
from incus_testbed.incus import location, messages
from incus_testbed.incus.exec import api, command
from incus_testbed.process.programs import Completed, shown


class Transport(Protocol):
    """What answers questions about one project of one server."""

    def get(self, path: str, *, recursion: int = 0) -> Any:
        """Return what the server answers to GET, below /1.0.

        With ``recursion`` 1 it gives what is in a list, not its names.  The
        path may have a query of its own.

        :raises errors.TestbedError: it refuses, or does not answer
        """


@dataclass(frozen=True)
class Socket:
    """The daemon's socket on this machine; ``limit``: seconds to answer."""

    path: str
    project: str
    limit: float

    def get(self, path: str, *, recursion: int = 0) -> Any:
        """Return what the server answers, as Transport has it."""
        target = _target(path, self.project, recursion)
        try:
            return api.get(self.path, target, self.limit)
        except api.Failure as failure:
            asked = f"GET {target}"
            if isinstance(failure, api.Lost) and location.is_users(self.path):
                error = messages.TURNED_AWAY.error(str(failure), asked)
            else:
                error = _error(failure, asked)
            raise error from failure

    def execute(
        self,
        instance: str,
        words: Sequence[str],
        *,
        timeout: float,
        stdin: bytes = b"",
    ) -> Completed:
        """Run a command in an instance, to its end.

        :raises errors.TestbedError: it could not be run
        :raises errors.TimedOut: it took more than ``timeout`` seconds, and
            was killed
        """
        try:
            status, stdout, stderr = command.run(
                self.path,
                instance,
                self.project,
                command.request(words),
                first=stdin,
                limit=min(self.limit, timeout),
                deadline=time.monotonic() + timeout,
            )
        except api.Failure as failure:
            raise _error(failure, f"incus exec {instance}") from failure
        except command.Expired:
            raise errors.TimedOut(
                f"'{shown(words)}' did not end in {instance} within"
                f" {timeout:g} s and was killed"
            ) from None
        return Completed(
            argv=tuple(words),
            status=status,
            stdout=stdout,
            stderr=stderr.decode(errors="replace"),
        )


@dataclass(frozen=True)
class Query:
    """The command incus query, which knows the user's remotes.

    ``run`` is Incus.run().
    """

    run: Callable[..., bytes]
    remote: str
    project: str

    def get(self, path: str, *, recursion: int = 0) -> Any:
        """Return what the server answers, as Transport has it."""
        target = _target(path, self.project, recursion)
        return json.loads(self.run("query", f"{self.remote}:{target}"))


def _target(path: str, project: str, recursion: int) -> str:
    start, _, query = path.partition("?")
    return (
        f"/1.0/{start}".rstrip("/")
        + f"?project={quote(project, safe='')}&recursion={recursion}"
        + (f"&{query}" if query else "")
    )


def _error(failure: api.Failure, asked: str) -> errors.TestbedError:
    """Return the error that a failure is for a user."""
    said = str(failure)
    match failure:
        case api.Refused():
            return messages.of_message(said, asked)
        case api.Unreachable():
            return messages.DOWN.error(said, asked)
        case api.Lost():
            return messages.GONE.error(said, asked)
        case api.Denied():
            return messages.DENIED.error(said, asked)
        case api.Late():
            return errors.TimedOut(
                "The Incus daemon does not answer",
                details=f"{said}\n(from '{asked}')",
                resolution="It is overloaded, or hangs. Look why:"
                " journalctl --unit=incus",
            )
    return errors.CommandFailed(f"'{asked}' failed", details=said)
