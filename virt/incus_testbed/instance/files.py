# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a guest's directories; copy files into and out of a guest."""

import contextlib
import errno
import os
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from incus_testbed import errors
from incus_testbed.incus.connection import IMAGE_LIMIT, REQUEST_LIMIT
from incus_testbed.instance import scripts
from incus_testbed.instance.copyup import limits
from incus_testbed.instance.copyup.limits import Limits
from incus_testbed.process import programs

if TYPE_CHECKING:
    from incus_testbed.instance.guest import Guest

#: A path in a guest.  Incus gets it joined to the guest's name, as UTF-8.
_PATH = re.compile(r"/[^\0\ud800-\udfff]{0,4095}", re.DOTALL)
#: The bits for setuid and setgid.
_SPECIAL = 0o6000
#: A temporary name begins with at most this many characters of the target's.
_NAME_LENGTH = 100


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

        A symbolic link is followed, within the guest.  An existing target is
        replaced when the copy is complete.  The limits of one copy are those of
        copyup.limits; some of the disk stays free.

        :raises FileNotFoundError: the source, or the target's directory, does
            not exist
        :raises errors.LimitReached: the file is larger than the limit
        :raises errors.NoSpace: the file does not fit on the disk
        """
        place = Path(target)
        limit = Limits.from_environment().size
        room = limits.room(place.parent)
        located = self._run_script("locate-file.sh", source, about=source)
        if not _PATH.fullmatch(located):
            raise _os_error(
                errno.EINVAL, source, "the guest does not say where it is"
            )
        with tempfile.TemporaryDirectory(
            prefix=f".{place.name[:_NAME_LENGTH]}.", dir=place.parent
        ) as folder:
            copy = Path(folder, "copy")
            try:
                with self._incus_says_of(source):
                    self.guest.incus.pull(
                        self.guest.name,
                        located,
                        str(copy),
                        largest=min(limit, room),
                    )
            except errors.TestbedError:
                if copy.is_file() and copy.stat().st_size >= room:
                    raise limits.no_room(room) from None
                if copy.is_file() and copy.stat().st_size >= limit:
                    raise limits.too_large(limit) from None
                raise
            # Root in the guest may have put a link there meanwhile.
            if copy.is_symlink() or not copy.is_file():
                raise _os_error(errno.EINVAL, source)
            copy.replace(place)

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


def _trouble(path: str, otherwise: int) -> int:
    """Return the errno for an unsuitable path on this machine."""
    if not Path(path).exists():
        return errno.ENOENT
    return errno.EISDIR if Path(path).is_dir() else otherwise


def _os_error(number: int, path: str, said: str = "") -> OSError:
    reason = ": ".join(filter(None, [os.strerror(number), said]))
    return OSError(number, reason, path)
