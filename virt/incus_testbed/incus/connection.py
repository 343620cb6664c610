# SPDX-License-Identifier: GPL-3.0-or-later
"""How a project of a server is reached: by command lines, and by questions."""

import contextlib
import logging
from collections.abc import Iterator
from typing import Any

from incus_testbed import errors
from incus_testbed.incus import location, members, messages, records
from incus_testbed.incus.exec.address import UnixAddress
from incus_testbed.incus.exec.api import quoted
from incus_testbed.incus.transport import Direct, Query, Transport
from incus_testbed.process import programs
from incus_testbed.process.environment import environment
from incus_testbed.process.guard import Doubt

log = logging.getLogger(__name__)

#: Seconds that a request to the daemon may take where nothing is moved.
REQUEST_LIMIT = 60.0
#: Seconds for what moves or unpacks an image.
IMAGE_LIMIT = 1800.0
#: Seconds for starting, stopping or removing an instance.
INSTANCE_LIMIT = 300.0


class Connection:
    """The incus command, aimed at one project of one server."""

    def __init__(
        self, *, project: str | None = None, remote: str | None = None
    ) -> None:
        """Aim at a project and remote; None means the user's choice."""
        self.project = project
        self.remote = remote.rstrip(":") if remote else None
        self._answers: dict[tuple[str, int], Any] | None = None

    @contextlib.contextmanager
    def asking_once(self) -> Iterator[None]:
        """Ask each question once meanwhile: for what changes nothing.

        With a profile, pool or network, Incus also lists all that use it.  If
        those are 2,000 instances, each question takes about 0.2 s.
        """
        self._answers = {}
        try:
            yield
        finally:
            self._answers = None

    def target(self, name: str = "") -> str:
        """Return how the command line names an object of this server."""
        return f"{self.remote}:{name}" if self.remote else name

    def argv(self, *words: str) -> list[str]:
        """Return the command line of an incus command for this project.

        The query command knows no project and refuses the option.
        """
        aimed = self.project and words[0] != "query"
        project = [f"--project={self.project}"] if aimed else []
        return ["incus", *project, *words]

    def run(
        self,
        *words: str,
        stdin: bytes = b"",
        timeout: float = REQUEST_LIMIT,
        doubt: Doubt | None = None,
    ) -> bytes:
        """Run an incus command and return its standard output.

        It is given up if ``doubt`` returns an error, which is raised.

        :raises errors.TestbedError: the kind that its message stands for
        """
        completed = programs.run(
            self.argv(*words),
            stdin=stdin,
            timeout=timeout,
            doubt=doubt,
        )
        if completed.status != 0:
            failure = messages.error(
                ["incus", *words], completed, remote=self._far()
            )
            raise self.naming_member(failure)
        return completed.stdout

    def get(self, path: str, *, recursion: int = 0) -> Any:
        """Return what the server answers to GET, as Transport.get() does.

        :raises errors.TestbedError: it refuses, or does not answer
        """
        if self._answers is None:
            return self._asked(path, recursion=recursion)
        if (path, recursion) not in self._answers:
            self._answers[path, recursion] = self._asked(
                path, recursion=recursion
            )
        return self._answers[path, recursion]

    def _asked(self, path: str, *, recursion: int = 0) -> Any:
        try:
            return self._transport().get(path, recursion=recursion)
        except errors.MemberDown as failure:
            raise self.naming_member(failure) from failure

    def change(self, method: str, path: str, document: object = None) -> None:
        """Change what the server has, as Transport.change() does.

        :raises errors.TestbedError: it refuses, or does not answer
        """
        try:
            self._transport().change(method, path, document)
        except errors.MemberDown as failure:
            raise self.naming_member(failure) from failure

    def operate(
        self,
        method: str,
        path: str,
        document: object,
        *,
        asked: str,
        timeout: float,
        doubt: Doubt,
    ) -> None:
        """Have something done that takes time, as Direct.operate() does.

        :raises errors.TestbedError: the server refuses, fails, or does not
            answer; or it is not reached directly
        """
        where = self._transport()
        if not isinstance(where, Direct):
            raise errors.Unsupported(f"{asked}: only the incus command can")
        log.debug("%s", asked)
        try:
            where.operate(
                *(method, path, document),
                asked=asked,
                timeout=timeout,
                doubt=doubt,
            )
        except errors.MemberDown as failure:
            raise self.naming_member(failure) from failure

    def naming_member(
        self, failure: errors.TestbedError
    ) -> errors.TestbedError:
        """Return an error that names the members that do not answer."""
        if not isinstance(failure, errors.MemberDown):
            return failure
        return members.named(failure, self._transport().get)

    def _list(self, path: str, wanted: str = "") -> list[dict[str, Any]]:
        """Return what is in a list, or what a filter of Incus leaves of it.

        Incus reads all of the list in either case: 0.25 ms for each instance
        of the project, 1 ms for each image.  So no way of a testbed should
        come by here.
        """
        condition = f"?filter={quoted(wanted)}" if wanted else ""
        # Incus returns null for some empty lists.
        return self.get(path + condition, recursion=1) or []

    def _names(self, path: str) -> list[str]:
        """Return the names in a list, which Incus knows without reading it.

        Of images it does not.
        """
        return records.names(path, self.get(path) or ())

    def _transport(self) -> Transport:
        choice = self.choice()
        if choice.address is None:
            return Query(self.run, choice.remote, choice.project)
        far = "" if self.is_local() else choice.remote
        return Direct(choice.address, choice.project, REQUEST_LIMIT, far)

    def choice(self) -> location.Choice:
        """Return the remote and project that this is aimed at now.

        If this client was made without one of them, the user chooses it, and
        may change it at any time.
        """
        return location.choose(
            environment(), remote=self.remote, project=self.project
        )

    def current_project(self) -> str:
        """Return the name of the project that this is aimed at."""
        return self.choice().project

    def _far(self) -> str:
        """Return the remote's name if its server is not on this machine."""
        return "" if self.is_local() else self.choice().remote

    def is_local(self) -> bool:
        """Tell whether the server's socket is on this machine."""
        return isinstance(self.choice().address, UnixAddress)

    def is_direct(self) -> bool:
        """Tell whether the daemon is reached without the incus command."""
        return self.choice().address is not None
