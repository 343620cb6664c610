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
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from incus_testbed import errors
from incus_testbed.errors import printable
from incus_testbed.incus import short_file
from incus_testbed.incus.connection import IMAGE_LIMIT, REQUEST_LIMIT
from incus_testbed.incus.exec.streams import NONE
from incus_testbed.instance import scripts
from incus_testbed.instance.copyup import file_copy
from incus_testbed.instance.copyup.limits import Limits
from incus_testbed.instance.copyup.source import Source
from incus_testbed.process import programs

if TYPE_CHECKING:
    from incus_testbed.instance.guest import Guest

#: The bits for setuid and setgid.
_SPECIAL = 0o6000
#: Those that a copy keeps.
_PERMISSIONS = 0o777
#: The errnos with which our scripts exit.
_ERRNOS = frozenset(
    {
        errno.ENOENT,
        errno.EIO,
        errno.EEXIST,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.EINVAL,
    }
)
#: Bytes of what a script says that are shown.
_LONGEST_COMPLAINT = 2000
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
        is_large = Path(source).stat().st_size > short_file.MOST
        if is_large and self.guest.incus.is_direct():
            self._send(source, target, uid=uid, gid=gid, mode=mode)
            return
        try:
            with self._incus_says_of(target):
                self.guest.incus.push(
                    self.guest.name,
                    # incus takes a single - for standard input
                    str(Path(source).absolute()),
                    target,
                    uid=uid,
                    gid=gid,
                    mode=mode,
                )
        except errors.CommandFailed:
            # Incus says of a broken connection only that it is broken.
            self._check_reachable(target)
            raise
        if mode is not None and mode & _SPECIAL:
            # incus file push sets the owner after the mode: that clears them.
            self._run_script("set-mode.sh", f"{mode:o}", target, about=target)

    def _send(
        self, source: str, target: str, *, uid: int, gid: int, mode: int | None
    ) -> None:
        """Copy a large file by a command.

        100 MB take 0.38 s.  By incus file push they take 0.62 s.
        """
        with Path(source).open("rb") as file:
            if mode is None:
                mode = os.fstat(file.fileno()).st_mode & _PERMISSIONS
            self._run_script(
                *("receive-file.sh", str(uid), str(gid), f"{mode:o}", target),
                about=target,
                source=file.fileno(),
                limit=IMAGE_LIMIT,
            )

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
            tempfile.TemporaryFile() as complaints,
            programs.stream(
                archive, stdout=subprocess.PIPE, stderr=complaints
            ) as tar,
        ):
            words = ("unpack.sh", target, tree.resolve().name)
            with self._started(*words, stdin=tar.stdout) as unpack:
                said = unpack.stdout.read(_LONGEST_COMPLAINT)
                unpack.stdout.close()
                text = said.decode(errors="replace")
                self._check(_status(unpack), target, text)
            if tar.wait(REQUEST_LIMIT):
                complaints.seek(0)
                raise errors.CommandFailed(
                    f"{source} could not be copied completely",
                    details=complaints.read().decode(errors="replace"),
                )

    def pull(self, source: str, target: str) -> None:
        """Copy a regular file of the guest to a path on this machine.

        A symbolic link is followed, by the guest itself.  An existing target is
        replaced when the copy is complete, and keeps its mode.  The limits of
        one copy are those of copyup.limits; some of the disk stays free.  A
        short file can also be read while a container is stopped.

        :raises FileNotFoundError: the source, or the target's directory, does
            not exist
        :raises errors.LimitReached: the file is larger than the limit
        :raises errors.NoSpace: the file does not fit on the disk
        :raises errors.CommandFailed: it did not come to its end
        """
        limits = Limits.from_environment()
        with file_copy.file_beside(Path(target)) as copy:
            short = self.guest.incus.short_file(self.guest.name, source)
            if short is None:
                self._receive(source, copy, limits)
            else:
                copy.receive([memoryview(short)], limits)
            copy.finish()

    def _receive(
        self, source: str, copy: file_copy.FileCopy, limits: Limits
    ) -> None:
        """Have the guest send a file, until all of it has come."""
        mark = secrets.token_hex(16)
        limits = replace(limits, size=limits.size + len(mark))
        for _ in range(_ATTEMPTS):
            with self._started("send-file.sh", mark, source) as sender:
                copy.receive(Source(sender.stdout.fileno()).rest(), limits)
                self._check(_status(sender), source)
            if copy.cut(mark.encode()):
                return
        raise self._not_whole(source)

    @contextlib.contextmanager
    def _started(
        self, script: str, *arguments: str, stdin: Any = subprocess.DEVNULL
    ) -> Iterator[Any]:
        """Run a script of the overlay as root, beside this process.

        Its output is a pipe.  A guest can print without end: nobody reads its
        errors.  After IMAGE_LIMIT seconds it is killed.
        """
        argv = self.guest.incus.exec_argv(
            self.guest.name, scripts.command(script, *arguments)
        )
        with programs.stream(
            argv,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        ) as child:
            timer = threading.Timer(IMAGE_LIMIT, child.kill)
            timer.daemon = True
            timer.start()
            try:
                yield child
            finally:
                timer.cancel()

    def _run_script(
        self,
        name: str,
        *arguments: str,
        about: str,
        source: int = NONE,
        limit: float = REQUEST_LIMIT,
    ) -> None:
        """Run a script of the overlay as root; ``source`` gives its input.

        :raises OSError: it exited with an errno, for ``about``
        """
        with self._incus_says_of(about):
            done = self.guest.execute(
                scripts.command(name, *arguments), timeout=limit, source=source
            )
        said = done.stdout.decode(errors="replace") + done.stderr
        self._check(done.status, about, said[:_LONGEST_COMPLAINT])

    def _check(self, status: int, path: str, said: str = "") -> None:
        """Raise what the exit status of a script for a path means, if not 0.

        :raises OSError: the guest can't do that with the path
        :raises errors.TestbedError: it is not known what the guest has done
        """
        if status == 0:
            return
        if status in _ERRNOS:
            raise _os_error(status, path, printable(said.strip()))
        self._check_reachable(path)
        raise self._not_whole(path)

    def _check_reachable(self, path: str) -> None:
        """Raise what keeps commands from the guest, if there is anything.

        :raises errors.TestbedError: the instance, or what has it, is at fault
        """
        with self._incus_says_of(path):
            self.guest.execute(["true"], timeout=REQUEST_LIMIT)

    def _not_whole(self, path: str) -> errors.CommandFailed:
        return errors.CommandFailed(
            f"{self.guest.name} has not done all that was asked about {path}",
            details="The guest restarted, or the connection to it was lost.",
        )

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


def _status(child: Any) -> int:
    """Wait for a script, and return its exit status.

    :raises errors.TimedOut: it took too long, and was killed
    """
    status: int = child.wait()
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
