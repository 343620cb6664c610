# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a guest's directories; copy files into and out of a guest."""

import contextlib
import errno
import os
import secrets
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from incus_testbed import errors
from incus_testbed.incus.connection import IMAGE_LIMIT, REQUEST_LIMIT
from incus_testbed.instance import scripts
from incus_testbed.instance.copyup import file_copy
from incus_testbed.instance.copyup.file_copy import FileCopy
from incus_testbed.instance.copyup.limits import Limits
from incus_testbed.instance.copyup.source import Source
from incus_testbed.process import programs

if TYPE_CHECKING:
    from incus_testbed.instance.guest import Guest

#: The bits for setuid and setgid.
_SPECIAL = 0o6000
#: The errnos with which send-file.sh exits.
_SENT = frozenset({errno.ENOENT, errno.EIO, errno.EISDIR, errno.EINVAL})
#: Times that a file is asked for until all of it has come: on a server that is
#: not reached directly, incus exec may lose the end.
_ATTEMPTS = 5


@dataclass(frozen=True)
class GuestFiles:
    """The files of a guest; its paths are absolute.

    All methods raise the OSError that the same action on this machine would
    raise, and errors.NotRunning if the guest is gone.
    """

    guest: "Guest"

    def make_directory(
        self,
        path: str,
        *,
        uid: int = 0,
        gid: int = 0,
        mode: int = 0o755,
        parents: bool = False,
    ) -> None:
        """Make a directory, owned by uid and gid.

        With ``parents``, missing directories above it are made too, with the
        same owner and mode 0755.

        :raises FileExistsError: the path exists
        """
        self._run_script(
            "make-directory.sh",
            str(uid),
            str(gid),
            f"{mode:o}",
            "yes" if parents else "no",
            path,
            about=path,
        )

    def push(
        self,
        source: str,
        target: str,
        *,
        uid: int = 0,
        gid: int = 0,
        mode: int | None = None,
    ) -> None:
        """Copy a regular file of this machine to a path in the guest.

        :raises FileNotFoundError: the source, or the target's directory, does
            not exist
        """
        if not Path(source).is_file():
            raise _os_error(_trouble(source, errno.EINVAL), source)
        with self._incus_says_of(target):
            self.guest.incus.push(
                self.guest.name,
                str(
                    Path(source).absolute()
                ),  # incus takes a single - for standard input
                target,
                uid=uid,
                gid=gid,
                mode=mode,
            )
        if mode is not None and mode & _SPECIAL:
            # Incus sets the owner after the mode, and that clears these bits.
            self._run_script("set-mode.sh", f"{mode:o}", target, about=target)

    def push_tree(
        self, source: str, target: str, *, uid: int = 0, gid: int = 0
    ) -> None:
        """Copy a directory of this machine into one of the guest.

        It keeps its name, modes and symbolic links; uid and gid own all of it.
        It is merged into a directory of that name, if the guest has one.

        :raises FileNotFoundError: one of the two does not exist
        """
        tree = Path(source)
        if not tree.is_dir():
            raise _os_error(_trouble(source, errno.ENOTDIR), source)
        archive = [
            "tar",
            "--create",
            f"--owner=_:{uid}",
            f"--group=_:{gid}",
            f"--directory={source}",
            ".",
        ]
        with (
            tempfile.TemporaryFile() as said,
            programs.stream(
                archive, stdout=subprocess.PIPE, stderr=said
            ) as tar,
        ):
            self._run_script(
                "unpack.sh",
                target,
                tree.resolve().name,
                about=target,
                stdin=tar.stdout,
                timeout=IMAGE_LIMIT,
            )
            if tar.wait(REQUEST_LIMIT):
                said.seek(0)
                raise errors.CommandFailed(
                    f"{source} could not be copied completely",
                    details=said.read().decode(errors="replace"),
                )

    def pull(self, source: str, target: str) -> None:
        """Copy a regular file of the guest to a path on this machine.

        A symbolic link is followed, by the guest itself.  An existing target is
        replaced when the copy is complete, and keeps its mode.  The limits of
        one copy are those of copyup.limits; some of the disk stays free.

        :raises FileNotFoundError: the source, or the target's directory, does
            not exist
        :raises errors.LimitReached: the file is larger than the limit
        :raises errors.NoSpace: the file does not fit on the disk
        :raises errors.CommandFailed: it did not come to its end
        """
        mark = secrets.token_hex(16)
        argv = self.guest.incus.exec_argv(
            self.guest.name, scripts.command("send-file.sh", mark, source)
        )
        limits = Limits.from_environment()
        limits = replace(limits, size=limits.size + len(mark))
        with file_copy.file_beside(Path(target)) as copy:
            for _ in range(_ATTEMPTS):
                status = _received(argv, copy, limits)
                if status:
                    self._check_sent(status, source)
                if copy.cut(mark.encode()):
                    copy.finish()
                    return
        raise self._not_sent(source)

    def _check_sent(self, status: int, source: str) -> None:
        """Raise what the exit status of send-file.sh means.

        :raises OSError: there is no such file in the guest
        :raises errors.TestbedError: the guest could not send it
        """
        if status in _SENT:
            raise _os_error(status, source)
        with self._incus_says_of(source):  # if the instance is at fault
            self.guest.execute(["true"], timeout=REQUEST_LIMIT)
        raise self._not_sent(source)

    def _not_sent(self, source: str) -> errors.CommandFailed:
        return errors.CommandFailed(
            f"{self.guest.name} did not send all of {source}",
            details="The guest restarted, or the connection to it was lost.",
        )

    def _run_script(
        self,
        name: str,
        *arguments: str,
        about: str,
        stdin: Any = subprocess.DEVNULL,
        timeout: float = REQUEST_LIMIT,
    ) -> str:
        """Run a script of the overlay as root and return what it prints.

        :raises OSError: it exited with an errno, for ``about``
        """
        words = scripts.command(name, *arguments)
        try:
            done = self.guest.run(
                words, stdin=stdin, capture_output=True, timeout=timeout
            )
        except subprocess.TimeoutExpired:
            raise errors.TimedOut(
                f"{self.guest.name} did not answer about {about} within"
                f" {timeout:.0f} s"
            ) from None
        if done.returncode:
            said = done.stderr.decode(errors="replace").strip()
            raise _os_error(done.returncode, about, said)
        return os.fsdecode(done.stdout).removesuffix("\n")

    @contextlib.contextmanager
    def _incus_says_of(self, path: str) -> Iterator[None]:
        """Raise NotRunning if the guest is absent, not FileNotFoundError."""
        try:
            yield
        except errors.NotFound as error:
            try:
                self.guest.incus.instance(self.guest.name)
            except errors.NotFound:
                raise errors.NotRunning(f"{self.guest.name} is gone") from error
            raise _os_error(errno.ENOENT, path) from error


def _received(argv: Sequence[str], copy: FileCopy, limits: Limits) -> int:
    """Receive what a command prints; return the command's status.

    The guest can print what it likes, and its errors too: nobody reads them.

    :raises errors.TimedOut: it took too long, and was killed
    """
    with programs.stream(
        argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as sender:
        assert sender.stdout  # noqa: S101 - it was asked for
        timer = threading.Timer(IMAGE_LIMIT, sender.kill)
        timer.daemon = True
        timer.start()
        try:
            copy.receive(Source(sender.stdout.fileno()), limits)
            status = sender.wait()
        finally:
            timer.cancel()
        if status == -signal.SIGKILL:
            raise errors.TimedOut(
                f"The copy did not end within {IMAGE_LIMIT:.0f} s"
            )
        return status


def _trouble(path: str, otherwise: int) -> int:
    """Return the errno for an unsuitable path on this machine."""
    if not Path(path).exists():
        return errno.ENOENT
    return errno.EISDIR if Path(path).is_dir() else otherwise


def _os_error(number: int, path: str, said: str = "") -> OSError:
    reason = ": ".join(filter(None, [os.strerror(number), said]))
    return OSError(number, reason, path)
