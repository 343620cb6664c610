# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder of the host that is filled with what a guest sends.

Nothing in it is a device, a FIFO, or a link that leads out of it.  Nothing has
the bits for setuid, setgid or sticky; its owner can read, change and remove
each folder.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from incus_testbed.copyout import path
from incus_testbed.copyout.archive import Archive, Member
from incus_testbed.copyout.limits import Budget
from incus_testbed.copyout.path import Refused

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PERMISSIONS = 0o777
_OWNER_ALL = 0o700
_USUAL = 0o755
#: What is to be a folder is absent, a file, or a link.
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
#: Of what was left out, so many are named.
_NAMED = 20
#: Bytes of memory for a link besides its text.
_LINK = 200


@dataclass(frozen=True, kw_only=True)
class Link:
    """A symbolic link in the guest, by its path below what was copied."""

    path: bytes
    target: bytes


@dataclass(kw_only=True)
class LeftOut:
    """What had no place on the host: how much, the first ones, and why.

    ``links``: the symbolic links among them, to put back into a guest, and
    ``room``: bytes of memory for more of them.
    """

    count: int = 0
    first: list[tuple[bytes, str]] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    room: int = 4 << 20

    def add(self, name: bytes, why: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.first) < _NAMED:
            self.first.append((name, why))

    def keep(self, link: Link) -> None:
        """Remember a link, as long as all of them take little memory."""
        size = _LINK + len(link.path) + len(link.target)
        if self.room >= size:
            self.room -= size
            self.links.append(link)


@dataclass
class _Open:
    """An open folder of the tree, and when it was changed in the guest."""

    name: bytes
    descriptor: int
    mtime: int | None = None


class Tree:
    """The folder, while it is filled; close it in the end."""

    def __init__(self, folder: int, budget: Budget, left_out: LeftOut) -> None:
        """Fill an open and empty folder, and say what was left out."""
        os.fchmod(folder, _USUAL)
        self._budget = budget
        self._left_out = left_out
        #: The folders from the root to the member last written.
        self._open = [_Open(b"", folder)]

    def fill(self, archive: Archive) -> None:
        """Write all members of an archive.

        :raises errors.LimitReached: they are more than the limits allow
        :raises errors.CommandFailed: there is no archive, or a damaged one
        """
        for member in archive.members():
            self._budget.take_member()
            self._budget.take(member.size)
            try:
                self._write(member, archive)
            except Refused as refused:
                self._left_out.add(member.path, str(refused))
        self._leave(0)
        _set_mtime(self._open[0])

    def close(self) -> None:
        """Close the folders below the root, which is its opener's to close."""
        while len(self._open) > 1:
            os.close(self._open.pop().descriptor)

    def _write(self, member: Member, archive: Archive) -> None:
        names = path.parts(member.path, self._budget.limits.depth)
        if member.kind == "folder":
            self._make_folder(names, member)
            return
        if not names:
            raise Refused("it takes the place of the copy itself")
        if member.kind == "other":
            raise Refused("it is a device or a FIFO")
        folder, name = self._enter(names[:-1]), names[-1]
        match member.kind:
            case "file":
                self._make_file(folder, name, member, archive)
            case "symlink":
                self._make_symlink(folder, names, member.target)
                os.utime(
                    name,
                    (member.mtime, member.mtime),
                    dir_fd=folder,
                    follow_symlinks=False,
                )
            case "hardlink":
                self._make_hardlink(folder, names, member)

    def _make_folder(self, names: list[bytes], member: Member) -> None:
        folder = self._enter(names)
        os.fchmod(folder, member.mode & _PERMISSIONS | _OWNER_ALL)
        self._open[-1].mtime = member.mtime

    def _make_file(
        self, folder: int, name: bytes, member: Member, archive: Archive
    ) -> None:
        with _once():
            file = os.open(name, _NEW_FILE, 0o600, dir_fd=folder)
        try:
            if member.size:
                archive.copy(file)
            os.fchmod(file, member.mode & _PERMISSIONS)
            os.utime(file, (member.mtime, member.mtime))
        finally:
            os.close(file)

    def _make_symlink(
        self, folder: int, names: list[bytes], target: bytes
    ) -> None:
        try:
            path.check_target(target, len(names) - 1)
        except Refused:
            self._left_out.keep(Link(path=b"/".join(names), target=target))
            raise
        with _once():
            os.symlink(target, names[-1], dir_fd=folder)

    def _make_hardlink(
        self, folder: int, names: list[bytes], member: Member
    ) -> None:
        *parents, source = path.parts(
            member.target, self._budget.limits.depth
        ) or [b""]
        with self._found(parents) as place:
            status = os.stat(source, dir_fd=place, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                # The same text may mean another place in another folder.
                text = os.readlink(source, dir_fd=place)
                self._make_symlink(folder, names, text)
            elif stat.S_ISREG(status.st_mode):
                # Whoever reads the copy reads it twice.
                self._budget.take(status.st_size)
                with _once():
                    os.link(
                        source,
                        names[-1],
                        src_dir_fd=place,
                        dst_dir_fd=folder,
                        follow_symlinks=False,
                    )
            else:
                raise Refused("it is a hard link to a folder")

    def _enter(self, names: list[bytes]) -> int:
        """Return a folder of the tree, open until another one is entered.

        It is made if need be, with those above it.
        """
        same = 0
        for entry, name in zip(self._open[1:], names, strict=False):
            if entry.name != name:
                break
            same += 1
        self._leave(same)
        for name in names[same:]:
            folder = _opened(self._open[-1].descriptor, name)
            self._open.append(_Open(name, folder))
        return self._open[-1].descriptor

    def _leave(self, depth: int) -> None:
        """Close the folders below a depth, and set their times."""
        while len(self._open) > depth + 1:
            _set_mtime(self._open[-1])
            os.close(self._open.pop().descriptor)

    @contextlib.contextmanager
    def _found(self, names: list[bytes]) -> Iterator[int]:
        """Open a folder that is there already, for the block alone.

        :raises Refused: it is not there, or what the block looks for isn't
        """
        folder = os.dup(self._open[0].descriptor)
        try:
            for name in names:
                below = os.open(name, _FOLDER, dir_fd=folder)
                os.close(folder)
                folder = below
            yield folder
        except OSError as error:
            if error.errno not in _NOT_THERE:
                raise
            raise Refused("it is a hard link to what was left out") from None
        finally:
            os.close(folder)


@contextlib.contextmanager
def _once() -> Iterator[None]:
    try:
        yield
    except FileExistsError:
        raise Refused("the archive has it twice") from None


def _opened(folder: int, name: bytes) -> int:
    """Open a folder within another one; make it if need be."""
    with contextlib.suppress(FileExistsError):
        os.mkdir(name, _USUAL, dir_fd=folder)
    try:
        return os.open(name, _FOLDER, dir_fd=folder)
    except OSError as error:
        if error.errno not in _NOT_THERE:
            raise
        raise Refused(
            "a file or a link is in the place of its folder"
        ) from None


def _set_mtime(folder: _Open) -> None:
    if folder.mtime is not None:
        os.utime(folder.descriptor, (folder.mtime, folder.mtime))
