# SPDX-License-Identifier: GPL-3.0-or-later
"""Requests to the Incus server: to the daemon itself, or by incus query.

The daemon answers in a tenth of the time that the incus command takes.
"""

import contextlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol
from urllib.parse import quote

from incus_testbed import errors
from incus_testbed.incus import location, messages, phrases, upload
from incus_testbed.incus.exec import api, command, operation
from incus_testbed.incus.exec.address import Address
from incus_testbed.incus.exec.connection import Connection
from incus_testbed.incus.exec.response import Response
from incus_testbed.incus.exec.streams import NONE, Ends
from incus_testbed.process.guard import FIRST_LOOK, NEXT_LOOK, Doubt
from incus_testbed.process.programs import Completed, shown

#: What failures mean in which the server has said nothing.
_MEANINGS = {
    api.Unreachable: phrases.DOWN,
    api.Lost: phrases.GONE,
    api.Denied: phrases.DENIED,
    api.Impostor: phrases.IMPOSTOR,
    api.Stranger: phrases.STRANGER,
    api.NoCertificate: phrases.NO_CERTIFICATE,
    api.Late: phrases.LATE,
}


class Transport(Protocol):
    """What asks for one project of one server, and changes what it has."""

    def get(self, path: str, *, recursion: int = 0) -> Any:
        """Return what the server answers to GET, below /1.0.

        With ``recursion`` 1 it gives what is in a list, not its names.  The
        path may have a query of its own.

        :raises errors.TestbedError: it refuses, or does not answer
        """

    def change(self, method: str, path: str, document: object) -> None:
        """Send a document with a method of HTTP, below /1.0.

        This is for what is done when the server has answered.

        :raises errors.TestbedError: it refuses, or does not answer
        """


@dataclass(frozen=True)
class Direct:
    """The daemon at an address; ``limit``: seconds to answer.

    ``remote`` is what the user calls it if it is not on this machine.
    """

    address: Address
    project: str
    limit: float
    remote: str = ""

    def get(self, path: str, *, recursion: int = 0) -> Any:
        """Return what the server answers, as Transport has it."""
        target = _target(path, self.project, recursion)
        try:
            return api.get(self.address, target, self.limit)
        except api.Failure as failure:
            raise self._error(failure, f"GET {target}") from failure

    def change(self, method: str, path: str, document: object) -> None:
        """Send a document, as Transport has it."""
        target = _target(path, self.project, 0)
        body = json.dumps(document)
        try:
            api.get(self.address, target, self.limit, body, method)
        except api.Failure as failure:
            raise self._error(failure, f"{method} {target}") from failure

    def operate(
        self,
        method: str,
        path: str,
        document: object,
        *,
        asked: str,
        timeout: float,
        doubt: Doubt | None,
    ) -> None:
        """Have something done that takes time, and wait for its end.

        ``asked`` is what a user would call it.  It is given up if ``doubt``
        returns an error, which is raised.

        :raises errors.TestbedError: the server refuses, fails, or does not
            answer
        :raises errors.TimedOut: it took more than ``timeout`` seconds; the
            server may still be at it
        """
        target = _target(path, self.project, 0)
        body = None if document is None else json.dumps(document)
        try:
            begun = api.get(self.address, target, timeout, body, method)
            wait = f"operations/{operation.named(begun)}/wait"
            connection = api.ask(
                self.address, _target(wait, self.project, 0), timeout
            )
            with contextlib.closing(connection):
                self._await_end(connection, asked, timeout, doubt)
        except api.Failure as failure:
            raise self._error(failure, asked) from failure
        except OSError as failure:
            lost = api.Lost(f"lost the Incus daemon: {failure}")
            raise self._error(lost, asked) from failure

    def _await_end(
        self,
        connection: Connection,
        asked: str,
        timeout: float,
        doubt: Doubt | None,
    ) -> None:
        """Wait until the end of an operation comes on a connection."""
        deadline = time.monotonic() + timeout
        response = Response()
        pause = FIRST_LOOK
        while (left := deadline - time.monotonic()) > 0:
            try:
                api.read(connection, min(left, pause), response)
            except TimeoutError:
                if doubt and (error := doubt()):
                    raise error from None
                pause = NEXT_LOOK
            else:
                operation.check(api.metadata(response.content))
                return
        raise errors.TimedOut(f"'{asked}' did not end within {timeout:g} s")

    def import_image(
        self, metadata: IO[bytes], rootfs: IO[bytes], *, timeout: float
    ) -> str:
        """Import a split image; return its fingerprint.

        :raises errors.TestbedError: the server refuses, or does not answer
        """
        asked = "incus image import"
        images = _target("images", self.project, 0)
        try:
            begun = upload.upload(
                self.address, images, metadata, rootfs, timeout
            )
            wait = f"operations/{operation.named(begun)}/wait"
            target = _target(wait, self.project, 0)
            return upload.fingerprint(api.get(self.address, target, timeout))
        except api.Failure as failure:
            raise self._error(failure, asked) from failure

    def execute(
        self,
        instance: str,
        words: Sequence[str],
        *,
        timeout: float,
        stdin: bytes = b"",
        source: int = NONE,
    ) -> Completed:
        """Run a command in an instance, to its end.

        ``source`` is a descriptor that more input comes from.

        :raises errors.TestbedError: it could not be run
        :raises errors.TimedOut: it took more than ``timeout`` seconds, and
            was killed
        """
        try:
            status, stdout, stderr = command.run(
                self.address,
                instance,
                self.project,
                command.request(words),
                ends=Ends(source),
                first=stdin,
                limit=min(self.limit, timeout),
                deadline=time.monotonic() + timeout,
            )
        except api.Failure as failure:
            raise self._error(failure, f"incus exec {instance}") from failure
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

    def _error(self, failure: api.Failure, asked: str) -> errors.TestbedError:
        """Return the error that a failure is for a user."""
        said = str(failure)
        if isinstance(failure, api.Refused):
            return messages.of_message(said, asked, remote=self.remote)
        phrase = _MEANINGS.get(type(failure))
        if phrase is phrases.GONE and location.is_users(self.address):
            phrase = phrases.TURNED_AWAY
        if not phrase:
            return errors.CommandFailed(f"'{asked}' failed", details=said)
        return phrase.error(said, asked, self.remote)


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
        # It prints nothing where the server's answer is null.
        said = self.run("query", f"{self.remote}:{target}").strip()
        return json.loads(said or b"null")

    def change(self, method: str, path: str, document: object) -> None:
        """Send a document, as Transport has it."""
        target = _target(path, self.project, 0)
        self.run(
            "query",
            f"--request={method}",
            f"--data={json.dumps(document)}",
            f"{self.remote}:{target}",
        )


def _target(path: str, project: str, recursion: int) -> str:
    place, _, query = path.partition("?")
    return (
        f"/1.0/{place}".rstrip("/")
        + f"?project={quote(project, safe='')}&recursion={recursion}"
        + (f"&{query}" if query else "")
    )
