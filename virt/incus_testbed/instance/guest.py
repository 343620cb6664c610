# SPDX-License-Identifier: GPL-3.0-or-later
"""Reach the system inside an instance: questions, commands, files."""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from incus_testbed import errors
from incus_testbed.errors import printable
from incus_testbed.incus.client import Incus
from incus_testbed.incus.connection import REQUEST_LIMIT
from incus_testbed.incus.events import AgentNews
from incus_testbed.instance import answer, scripts
from incus_testbed.instance.command import GuestCommand, Word
from incus_testbed.process import programs

if TYPE_CHECKING:
    import subprocess

    from incus_testbed.instance.files import GuestFiles

log = logging.getLogger(__name__)

#: Seconds for a small script of our own in a guest.
SCRIPT_LIMIT = 60.0
#: Seconds for making a user, which may install passwd.
_USER_LIMIT = 300.0
#: Times that a script is run until its answer has come.
_ATTEMPTS = 5


@dataclass(frozen=True)
class Guest:
    """The system inside an instance; ``vm``: a virtual machine."""

    incus: Incus
    name: str
    vm: bool = False

    @property
    def files(self) -> "GuestFiles":
        """Its files."""
        # Imported here: many guests are only asked questions.
        from incus_testbed.instance.files import GuestFiles  # noqa: PLC0415

        return GuestFiles(self)

    def execute(
        self, command: Sequence[str], *, timeout: float, **given: Any
    ) -> programs.Completed:
        """Run a command without a login, as Incus.execute() does."""
        return self.incus.execute(self.name, command, timeout=timeout, **given)

    def agent_news(self) -> AbstractContextManager[AgentNews]:
        """Listen to the news of its agent; a container has none."""
        if self.vm:
            return self.incus.agent_news(self.name)
        return contextlib.nullcontext(AgentNews(self.name))

    def check_member(self) -> None:
        """Check that the member of a cluster that has it answers.

        :raises errors.MemberDown: it does not
        """
        try:
            if self.incus.is_clustered():
                self.execute(["true"], timeout=REQUEST_LIMIT)
        except errors.MemberDown:
            raise
        except errors.TestbedError as error:
            log.debug("%s can't be reached: %s", self.name, error.brief)

    def ask(
        self,
        question: str,
        *arguments: str,
        then: str | None = None,
        limit: float = SCRIPT_LIMIT,
    ) -> dict[str, str]:
        """Run a script of the overlay; return its answers and status.

        ``then`` is a second script to run directly after it.  The scripts may
        run several times: incusd rarely loses the end of an answer, with status
        0 (see drain.pl).  Where a server is not reached directly, only incus
        exec works, and it loses the output of up to 10 % of short commands.

        :raises errors.NotRunning: the instance is not running
        :raises errors.TimedOut: it took more than ``limit`` seconds
        """
        command = scripts.question(question, *arguments, then=then)
        for _ in range(_ATTEMPTS):
            completed = self.execute(command, timeout=limit)
            output = completed.stdout.decode(errors="replace")
            if scripts.is_whole(output):
                break
            log.debug("%s has not answered %s in full", self.name, question)
            if completed.status:  # it was ended: the next attempt would be, too
                break
        return {**scripts.answers(output), "status": str(completed.status)}

    def make_user(self, name: str) -> int:
        """Return a user's uid; create the user, with a home, if needed.

        :raises errors.CommandFailed: the user can't be created
        """
        uid = self.ask("make-user.sh", name, limit=_USER_LIMIT).get("uid")
        if not uid:
            raise errors.CommandFailed(
                f"The user {name} can't be created in {self.name}"
            )
        return answer.number(uid, answer.LARGEST_UID, f"the uid of {name}")

    def exec_argv(
        self,
        command: Sequence[str],
        *,
        interactive: bool = False,
        program: Sequence[str] = (),
    ) -> list[str]:
        """Return the host's command line that runs a command in the guest.

        The command runs as root in /root, with the environment of a login as
        in run().  Its exit status is passed on; 128 + N means signal N.  See
        Incus.exec_argv() for ``program``, and for the status if it could not be
        run.
        """
        return self.incus.exec_argv(
            self.name,
            self._logged_in(command, interactive=interactive),
            interactive=interactive,
            program=program,
        )

    def _logged_in(
        self, command: Sequence[str], *, interactive: bool = False
    ) -> list[str]:
        # The relay does it for a virtual machine; a terminal has one process
        # that it sends signals to.
        attended = not self.vm and not interactive
        wrapped = scripts.for_autopkgtest(
            scripts.logged_in("exec.pl", *command, attended=attended)
        )
        if self.vm and not interactive:
            wrapped = scripts.relayed(wrapped)
        return wrapped

    def make_scratch(self, path: str = "") -> str:
        """Make autopkgtest's scratch directory, at a path if one is given.

        It returns the path.

        :raises errors.CommandFailed: it can't be made
        """
        done = self.execute(
            self._logged_in(scripts.command("scratch.sh", path)),
            timeout=SCRIPT_LIMIT,
        )
        said = done.stdout.decode(errors="replace").removesuffix("\n")
        made = answer.path(said)
        if done.status or not made:
            raise errors.CommandFailed(
                f"The scratch directory can't be made in {self.name}",
                details=printable(f"{said}\n{done.stderr}".strip()),
            )
        return made

    def exec(
        self,
        command: Sequence[str],
        *,
        interactive: bool = False,
        **options: Any,
    ) -> "subprocess.CompletedProcess[Any]":
        """Run a command in the guest; ``options`` are subprocess.run's."""
        return programs.call(
            self.exec_argv(command, interactive=interactive), **options
        )

    def run(
        self,
        command: Sequence[Word],
        *,
        user: str = "root",
        cwd: Word | None = None,
        env: Mapping[str, Word] | None = None,
        **options: Any,
    ) -> "subprocess.CompletedProcess[Any]":
        """Run a command in the guest as subprocess.run does on a host.

        See GuestCommand, whose ``run`` says what is raised.
        """
        return GuestCommand(
            guest=self, words=command, user=user, cwd=cwd, env=env
        ).run(**options)

    def leave_settings(self, key: str, settings: bytes) -> None:
        """Store variables for the next command or shell with this key."""
        self.execute(
            scripts.command("settings.sh", key),
            stdin=settings,
            timeout=SCRIPT_LIMIT,
        )
