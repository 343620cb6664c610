# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command inside an instance with the semantics of subprocess.run."""

import contextlib
import errno
import logging
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from incus_testbed import errors
from incus_testbed.errors import printable
from incus_testbed.incus.messages import OWN_FAILURE
from incus_testbed.instance import answer, scripts
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
#: Options of subprocess.run that are about a process of this host.
_FOREIGN = frozenset(
    {
        "executable",
        "extra_groups",
        "group",
        "pass_fds",
        "preexec_fn",
        "process_group",
        "shell",
        "umask",
    }
)


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
        if foreign := sorted(_FOREIGN & options.keys()):
            raise TypeError(f"no such option for a guest: {foreign[0]}")
        if input is not None and options.get("stdin") is not None:
            raise ValueError("give a command stdin or input, not both")
        key = os.urandom(8).hex()
        streams = 2 if capture_output or not _is_one_place(options) else 1
        settings = self._settings()
        command = self._command(key, streams, len(settings))
        try:
            with self._handed_over(key, settings) as first:
                done = programs.call(
                    self.guest.incus.exec_argv(
                        self.guest.name, command, first=first
                    ),
                    input=input,
                    capture_output=capture_output,
                    timeout=timeout,
                    grace=_KILL_LIMIT,
                    pass_fds=() if first is None else (first,),
                    **options,
                )
        except subprocess.TimeoutExpired as expired:
            raise subprocess.TimeoutExpired(
                self.words, expired.timeout, expired.output, expired.stderr
            ) from None
        status = done.returncode
        if status == OWN_FAILURE or status < 0:
            status = self._status(key, done.stderr)
        result = subprocess.CompletedProcess(
            self.words, status, done.stdout, done.stderr
        )
        if check:
            result.check_returncode()
        return result

    def _settings(self) -> bytes:
        env = self.env or {}
        if env:
            log.debug("with %s", ", ".join(map(os.fsdecode, env)))
        return "".join(
            f"{os.fsdecode(name)}={os.fsdecode(env[name])}\0" for name in env
        ).encode()

    @contextlib.contextmanager
    def _handed_over(self, key: str, settings: bytes) -> Iterator[int | None]:
        """Give the variables to run.pl; yield a descriptor for it to read.

        Incus itself would put them on command lines: the daemon starts a
        process for each command, with the environment as arguments.  With
        incus exec nothing can be sent before the input, so a separate command
        stores them, and no descriptor is yielded.
        """
        if not settings:
            yield None
        elif not self.guest.incus.is_direct():
            self.guest.leave_settings(key, settings)
            yield None
        else:
            with os.fdopen(os.memfd_create("settings"), "wb") as file:
                file.write(settings)
                file.flush()
                file.seek(0)
                yield file.fileno()

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

    def _status(self, key: str, said: str | bytes | None) -> int:
        """Ask the guest how the command ended; return subprocess' status.

        A command's exit status alone does not tell a signal from an exit.
        ``said`` are its errors, if they were captured.
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
        raise errors.CommandFailed(
            f"It is not known how '{os.fsdecode(self.words[0])}' ended in"
            f" {self.guest.name}",
            details="The guest restarted, or the connection to it was lost."
            + _reason(said),
        )

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


def _reason(said: str | bytes | None) -> str:
    """Return what a session's program says, at the end of captured errors.

    It begins with a blank; it is empty if nothing was captured.
    """
    text = said.decode(errors="replace") if isinstance(said, bytes) else said
    last = (text or "").splitlines()[-1:]
    return "".join(f" {printable(line)}" for line in last)


def _is_one_place(options: Mapping[str, Any]) -> bool:
    """Tell whether output and errors go to the same place.

    As two streams they would arrive there in the wrong order.
    """
    output, errors_ = options.get("stdout"), options.get("stderr")
    if errors_ == subprocess.STDOUT:
        return True
    if subprocess.PIPE in {output, errors_}:
        return False
    places = [_place(output, 1), _place(errors_, 2)]
    return places[0] is not None and places[0] == places[1]


def _place(stream: Any, inherited: int) -> tuple[int, int] | None:
    """Return device and inode of an output stream, if there is one."""
    if stream == subprocess.DEVNULL:
        return None
    descriptor = stream
    if stream is None:
        descriptor = inherited
    elif not isinstance(stream, int):
        descriptor = stream.fileno()
    try:
        status = os.fstat(descriptor)
    except OSError:  # closed: subprocess will say so
        return None
    return status.st_dev, status.st_ino


def _os_error(said: str, name: Word) -> OSError:
    number = answer.number(said, answer.LARGEST_ERRNO, "an errno") or errno.EIO
    return OSError(number, os.strerror(number), os.fsdecode(name))
