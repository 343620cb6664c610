# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command inside an instance with the semantics of subprocess.run."""

import contextlib
import errno
import logging
import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from incus_testbed import errors
from incus_testbed.errors import printable
from incus_testbed.incus.exec import api
from incus_testbed.incus.exec.command import Expired
from incus_testbed.incus.messages import OWN_FAILURE
from incus_testbed.instance import answer, scripts
from incus_testbed.instance.redirection import Redirection
from incus_testbed.process import programs

if TYPE_CHECKING:
    from incus_testbed.instance.guest import Guest

log = logging.getLogger(__name__)

#: A word of a command line, as subprocess takes it.
Word = str | bytes | os.PathLike[str] | os.PathLike[bytes]

#: Where relative working directories begin (Debusine 0.16).
_RELATIVE_TO = "/root"
#: Seconds to end all processes of an interrupted command.
_KILL_LIMIT = 15.0


@dataclass(frozen=True, kw_only=True)
class GuestCommand:
    """A command for a guest, with its user, directory and environment.

    ``cwd`` is a path in the guest, relative to /root; None means the user's
    home.  ``env`` adds variables to those of a login.  Their values appear on
    no command line and in no log.
    """

    guest: "Guest"
    words: Sequence[Word]
    user: str = "root"
    cwd: Word | None = None
    env: Mapping[str, Word] | None = None

    def run(
        self,
        *,
        input: Any = None,  # noqa: A002 - subprocess.run's name
        capture_output: bool = False,
        timeout: float | None = None,
        check: bool = False,
        **options: Any,
    ) -> "subprocess.CompletedProcess[Any]":
        """Run the command to its end; the arguments are subprocess.run's.

        After ``timeout`` or an interruption, no process of the command remains
        in the guest.

        :raises OSError: the user can't use the command, or ``cwd``
        :raises KeyError: the guest has no such user
        :raises errors.NotRunning: the guest is not running, or stopped
        :raises subprocess.TimeoutExpired: it took more than ``timeout`` seconds
        :raises subprocess.CalledProcessError: ``check``, and it failed
        :raises ValueError: a word is not UTF-8, or holds a NUL
        """
        if input is not None and options.get("stdin") is not None:
            raise ValueError("give a command stdin or input, not both")
        if capture_output:
            options.update(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        redirection = Redirection(**options)
        key = os.urandom(8).hex()
        settings = self._settings()
        streams = 1 if redirection.is_one_place else 2
        call = _Call(
            key=key,
            argv=self._command(key, streams, len(settings)),
            settings=settings,
            redirection=redirection,
            input=input,
            timeout=timeout,
        )
        if self.guest.incus.is_direct():
            done = self._in_this_process(call)
        else:
            done = self._by_incus_exec(call)
        if check:
            done.check_returncode()
        return done

    def _settings(self) -> bytes:
        env = self.env or {}
        if env:
            log.debug("with %s", ", ".join(map(os.fsdecode, env)))
        return "".join(
            f"{os.fsdecode(name)}={os.fsdecode(env[name])}\0" for name in env
        ).encode()

    def _command(self, key: str, streams: int, size: int) -> list[str]:
        cwd = ""
        if self.cwd is not None:
            cwd = str(PurePosixPath(_RELATIVE_TO, os.fsdecode(self.cwd)))
        words = [*map(os.fsdecode, self.words)]
        for word in words:
            word.encode()  # Incus accepts only UTF-8
        command = scripts.logged_in(
            "run.pl", key, self.user, cwd, str(streams), str(size), *words
        )
        return scripts.relayed(command) if self.guest.vm else command

    def _in_this_process(
        self, call: "_Call"
    ) -> "subprocess.CompletedProcess[Any]":
        """Run it, with the variables in front of its input.

        Incus itself would put them on command lines: the daemon starts a
        process for each command, with the environment as arguments.
        """
        begun = time.monotonic()
        with call.redirection.ends(call.input) as ends:
            try:
                status, *output = self.guest.incus.carry(
                    self.guest.name,
                    call.argv,
                    ends=ends,
                    first=call.settings,
                    timeout=call.timeout,
                    grace=_KILL_LIMIT,
                )
            except Expired as expired:
                raise self._expired(
                    call, expired.output, expired.errors
                ) from None
            except api.Failure as failure:
                waited = time.monotonic() - begun
                if call.timeout is not None and waited >= call.timeout:
                    raise self._expired(call) from failure
                # The guest may know that it was not even started.
                self._status(call.key)
                raise self._unknown(printable(str(failure))) from failure
        if status == OWN_FAILURE:
            status = self._known_status(call.key)
        kept = call.redirection.kept(*output)
        return subprocess.CompletedProcess(self.words, status, *kept)

    def _expired(
        self,
        call: "_Call",
        output: bytes | None = None,
        said: bytes | None = None,
    ) -> subprocess.TimeoutExpired:
        return subprocess.TimeoutExpired(
            self.words, call.timeout or 0.0, output or None, said or None
        )

    def _by_incus_exec(
        self, call: "_Call"
    ) -> "subprocess.CompletedProcess[Any]":
        """Run it; nothing can be sent before its input."""
        if call.settings:
            self.guest.leave_settings(call.key, call.settings)
        try:
            done = programs.call(
                self.guest.incus.exec_argv(self.guest.name, call.argv),
                input=call.input,
                timeout=call.timeout,
                grace=_KILL_LIMIT,
                **vars(call.redirection),
            )
        except subprocess.TimeoutExpired as expired:
            raise self._expired(call, expired.output, expired.stderr) from None
        status = done.returncode
        if status == OWN_FAILURE or status < 0:
            status = self._known_status(call.key, done.stderr)
        return subprocess.CompletedProcess(
            self.words, status, done.stdout, done.stderr
        )

    def _known_status(self, key: str, said: str | bytes | None = None) -> int:
        """Return the status that the guest knows.

        ``said`` are the errors that were captured, if they were.
        """
        status = self._status(key)
        if status is None:
            lost = "The guest restarted, or the connection to it was lost."
            raise self._unknown(f"{lost} {_last_line(said)}".rstrip())
        return status

    def _unknown(self, details: str) -> errors.CommandFailed:
        return errors.CommandFailed(
            f"It is not known how '{os.fsdecode(self.words[0])}' ended in"
            f" {self.guest.name}",
            details=details,
        )

    def _status(self, key: str) -> int | None:
        """Ask the guest how the command ended; return subprocess' status.

        A command's exit status alone does not tell a signal from an exit.  None
        is what the guest does not know.
        """
        kind, _, number = self._outcome(key).partition(" ")
        match kind:
            case "exit":
                return answer.number(
                    number, answer.LARGEST_STATUS, "an exit status"
                )
            case "signal":
                return -answer.number(number, answer.LARGEST_SIGNAL, "a signal")
            case "user":
                raise KeyError(f"User not found in instance: {self.user}")
            case "cwd":
                raise _os_error(number, self.cwd or "~")
            case "command":
                raise _os_error(number, self.words[0])
        return None

    def _outcome(self, key: str) -> str:
        """Ask the guest how the command ended, and delete its record of it.

        These are two steps, because a lost answer is asked for again.
        """
        try:
            said = self.guest.ask("outcome.sh", key)
        except errors.NotFound as error:
            raise errors.NotRunning(
                f"{self.guest.name} is gone", details=error.brief
            ) from error
        if "outcome" in said:
            with contextlib.suppress(errors.TestbedError):
                self.guest.ask("outcome.sh", key, "forget")
        return said.get("outcome", "")


@dataclass(frozen=True, kw_only=True)
class _Call:
    """A command on its way: what the guest runs, and what subprocess.run got.

    ``key`` is that of the guest's record of it.
    """

    key: str
    argv: Sequence[str]
    settings: bytes
    redirection: Redirection
    input: Any
    timeout: float | None


def _last_line(said: str | bytes | None) -> str:
    """Return what a program says at the end of captured errors."""
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    return printable("".join((text or "").splitlines()[-1:]))


def _os_error(said: str, name: Word) -> OSError:
    number = answer.number(said, answer.LARGEST_ERRNO, "an errno") or errno.EIO
    return OSError(number, os.strerror(number), os.fsdecode(name))
