# SPDX-License-Identifier: GPL-3.0-or-later
"""How a project of a server is reached: by command lines, and by questions."""

from typing import Any

from incus_testbed.incus import location, messages
from incus_testbed.incus.transport import Query, Socket, Transport
from incus_testbed.process import programs

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
    ) -> bytes:
        """Run an incus command and return its standard output.

        :raises errors.TestbedError: the kind that its message stands for
        """
        argv = self.argv(*words)
        completed = programs.run(argv, stdin=stdin, timeout=timeout)
        if completed.status != 0:
            raise messages.error(
                ["incus", *words], completed, remote=self._far()
            )
        return completed.stdout

    def get(self, path: str, *, recursion: int = 0) -> Any:
        """Return what the server answers to GET, as Transport.get() does.

        :raises errors.TestbedError: it refuses, or does not answer
        """
        return self._transport().get(path, recursion=recursion)

    def _list(self, path: str) -> list[dict[str, Any]]:
        # Incus returns null for some empty lists.
        return self.get(path, recursion=1) or []

    def _transport(self) -> Transport:
        choice = self.choice()
        if choice.socket is None:
            return Query(self.run, choice.remote, choice.project)
        return Socket(choice.socket, choice.project, REQUEST_LIMIT)

    def choice(self) -> location.Choice:
        """Return the remote and project that this is aimed at now.

        If this client was made without one of them, the user chooses it, and
        may change it at any time.
        """
        return location.choose(
            programs.environment(), remote=self.remote, project=self.project
        )

    def current_project(self) -> str:
        """Return the name of the project that this is aimed at."""
        return self.choice().project

    def _far(self) -> str:
        """Return the remote's name if its server is not on this machine."""
        return "" if self.is_local() else self.choice().remote

    def is_local(self) -> bool:
        """Tell whether the server's socket is on this machine."""
        return self.choice().socket is not None
