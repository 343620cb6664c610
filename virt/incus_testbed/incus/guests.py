# SPDX-License-Identifier: GPL-3.0-or-later
"""The systems in instances: commands and files."""

import logging
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager

from incus_testbed import errors
from incus_testbed.incus import events, location, messages, short_file
from incus_testbed.incus.connection import IMAGE_LIMIT
from incus_testbed.incus.exec import command as session
from incus_testbed.incus.exec.api import LIMIT, Unreachable
from incus_testbed.incus.exec.streams import NONE, Ends
from incus_testbed.incus.server import Server
from incus_testbed.incus.transport import Direct
from incus_testbed.process import programs

log = logging.getLogger(__name__)


class Guests(Server):
    """A method for each verb."""

    def exec_argv(
        self,
        name: str,
        command: Sequence[str],
        *,
        interactive: bool = False,
        program: Sequence[str] = (),
    ) -> list[str]:
        """Return the command line that runs a command in an instance.

        The caller runs it, and gets the command's standard streams and exit
        status.  The command starts as root, in /root.  If it could not be run,
        the status is OWN_FAILURE.  Interactive commands, and those on a server
        that is not reached directly, are run by incus exec: its status is then
        1, and it may lose the output of a short command.

        ``program`` is the program that runs the command: it gets the words of
        a session, or all of incus exec.
        """
        terminal = "--force-interactive" if interactive else "-T"
        choice = self.choice()
        if choice.address and not interactive:
            return location.session_argv(
                choice.address,
                choice.project,
                name,
                command,
                program=program,
            )
        return [
            *program,
            *self.argv("exec", self.target(name), terminal, "--", *command),
        ]

    def carry(
        self,
        name: str,
        command: Sequence[str],
        *,
        ends: Ends,
        first: bytes,
        timeout: float | None,
        grace: float,
    ) -> tuple[int, bytes, bytes]:
        """Run a command in an instance to its end; only if is_direct().

        It starts as root, in /root.  Returns its status, and the output and the
        errors that are kept; for ``ends``, ``first`` and ``grace`` see run() of
        exec/command.py.

        :raises exec.api.Failure: it was not run, or not to its end as far as is
            known
        :raises exec.command.Expired: it took more than ``timeout`` seconds
        """
        log.debug("in %s: %s", name, programs.shown(command))
        choice = self.choice()
        if choice.address is None:
            raise Unreachable(f"no daemon of {choice.remote} is known")
        return session.run(
            choice.address,
            name,
            choice.project,
            session.request(command),
            ends=ends,
            first=first,
            limit=None if timeout is None else min(timeout, LIMIT),
            deadline=None if timeout is None else time.monotonic() + timeout,
            grace=grace,
        )

    def execute(
        self,
        name: str,
        command: Sequence[str],
        *,
        timeout: float,
        stdin: bytes = b"",
        source: int = NONE,
    ) -> programs.Completed:
        """Run a command in an instance, to its end.

        ``source`` is a descriptor that more input comes from; only if
        is_direct().

        :raises errors.TestbedError: it could not be run
        :raises errors.TimedOut: it took more than ``timeout`` seconds
        """
        if isinstance(where := self._transport(), Direct):
            log.debug("in %s: %s", name, programs.shown(command))
            try:
                return where.execute(
                    name, command, stdin=stdin, source=source, timeout=timeout
                )
            except errors.MemberDown as failure:
                raise self.naming_member(failure) from failure
        argv = self.exec_argv(name, command)
        completed = programs.run(argv, stdin=stdin, timeout=timeout)
        if messages.is_own_failure(completed):
            raise messages.error(
                ["incus", "exec", name], completed, remote=self._far()
            )
        return completed

    def agent_news(self, name: str) -> AbstractContextManager[events.AgentNews]:
        """Listen to the news of a virtual machine's agent."""
        choice = self.choice()
        return events.agent_news(choice.address, choice.project, name)

    def short_file(self, name: str, path: str) -> bytes | None:
        """Return the content of a file, if it is a short and regular one.

        None says nothing: ask the instance itself.  That is always so on a
        server that is not reached directly.
        """
        choice = self.choice()
        if choice.address is None:
            return None
        return short_file.read(choice.address, choice.project, name, path)

    def modified(self, name: str, path: str) -> int | None:
        """Return when a file of an instance was changed, also of a stopped one.

        That is in seconds since 1970; 0: there is no such file; None: it is not
        known, as always on a server that is not reached directly.
        """
        choice = self.choice()
        if choice.address is None:
            return None
        return short_file.modified(choice.address, choice.project, name, path)

    def push(
        self,
        name: str,
        source: str,
        target: str,
        *,
        uid: int,
        gid: int,
        mode: int | None = None,
    ) -> None:
        """Copy a file into an instance.

        :raises errors.NotFound: a file or folder named does not exist
        """
        choice = self.choice()
        short = short_file.here(source)
        if choice.address and short:
            content, its_mode = short
            if short_file.make(
                *(choice.address, choice.project, name, target, content),
                uid=uid,
                gid=gid,
                mode=its_mode if mode is None else mode,
            ):
                return
        options = [f"--uid={uid}", f"--gid={gid}"]
        if mode is not None:
            # Without a 0 in front, incus takes four digits for decimal.
            options.append(f"--mode=0{mode:o}")
        self.run(
            "file",
            "push",
            "--quiet",
            *options,
            "--",
            source,
            self.target(f"{name}{target}"),
            timeout=IMAGE_LIMIT,
            doubt=self.watch(name, "file push to"),
        )
