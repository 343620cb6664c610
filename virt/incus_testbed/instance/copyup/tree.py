# SPDX-License-Identifier: GPL-3.0-or-later
"""Fill a folder of the host with what a guest sends.

It gets no devices, no FIFOs and no links that lead out of it.  No entry has the
bits for setuid, setgid or sticky.  The owner can read, change and remove each
folder.
"""

import contextlib
import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field

from incus_testbed.instance.copyup import path
from incus_testbed.instance.copyup.archive import Archive, Member
from incus_testbed.instance.copyup.limits import Budget
from incus_testbed.instance.copyup.path import Refused

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PERMISSIONS = 0o777
_OWNER_ALL = 0o700
_USUAL = 0o755
#: Errors if a folder's path is absent, or is a file or a link.
_NOT_THERE = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}
_TWICE = "the archive has it twice"
#: The number of left out entries that are named.
_NAMED = 20
#: Bytes of memory for a link in addition to its text.
_LINK = 200


@dataclass(frozen=True, kw_only=True)
class Link:
    """A symbolic link in the guest; ``path`` is relative to the copy."""

    path: bytes
    target: bytes


@dataclass(kw_only=True)
class LeftOut:
    """The entries that may not exist on the host.

    ``count`` is their number; ``first`` holds the first ones, with the reasons.
    ``links`` are the symbolic links among them, to put back into a guest;
    ``room`` is the memory, in bytes, that is left for more links.
    """

    count: int = 0
    first: list[tuple[bytes, str]] = field(default_factory=list)
    links: list[Link] = field(default_factory=list)
    room: int = 4 << 20

    def add(self, name: bytes, why: str) -> None:
        """Count one more entry."""
        self.count += 1
        if len(self.first) < _NAMED:
            self.first.append((name, why))

    def keep(self, link: Link) -> None:
        """Remember a link, if there is memory left for it."""
        size = _LINK + len(link.path) + len(link.target)
        if self.room >= size:
            self.room -= size
            self.links.append(link)


@dataclass
class _Open:
    """An open folder of the tree, with its time in the guest."""

    name: bytes
    descriptor: int
    mtime: int | None = None


class Tree:
    """The folder while it is filled.  Call close() at the end."""

    def __init__(self, folder: int, budget: Budget, left_out: LeftOut) -> None:
        """Fill an open, empty folder; note in ``left_out`` what is left out."""
        os.fchmod(folder, _USUAL)
        self._budget = budget
        self._left_out = left_out
        #: The folders from the root to the member last written.
        self._open = [_Open(b"", folder)]
        #: The beginning that all paths in the last of these folders have, if
        #: known.  It saves the splitting of each path, which is slow.
        self._prefix: bytes | None = None

    def fill(self, archive: Archive) -> None:
        """Write all members of an archive.

        :raises errors.LimitReached: they exceed the limits
        :raises errors.CommandFailed: the archive is missing or damaged
        """
        # So open() can set a file's mode: a chmod for each small file would
        # take longer than everything else that is done for it.
        umask = os.umask(0)
        try:
            self._write_all(archive)
        finally:
            os.umask(umask)

    def close(self) -> None:
        """Close the folders below the root; the caller closes the root."""
        while len(self._open) > 1:
            os.close(self._open.pop().descriptor)

    def _write_all(self, archive: Archive) -> None:
        for member in archive.members():
            self._budget.take_member(member.size)
            try:
                self._write(member, archive)
            except Refused as refused:
                self._left_out.add(member.path, str(refused))
        self._leave(0)
        _set_mtime(self._open[0])

    def _write(self, member: Member, archive: Archive) -> None:
        if member.kind == "file":
            self._make_file(self._name_in_folder(member.path), member, archive)
        elif member.kind == "folder":
            self._make_folder(member)
        elif member.kind == "symlink":
            name = self._name_in_folder(member.path)
            self._make_symlink(name, member.target)
            os.utime(
                name,
                (member.mtime, member.mtime),
                dir_fd=self._folder,
                follow_symlinks=False,
            )
        elif member.kind == "hardlink":
            self._make_hardlink(self._name_in_folder(member.path), member)
        else:
            raise Refused("it is a device or a FIFO")

    @property
    def _folder(self) -> int:
        """The descriptor of the folder that was entered last."""
        return self._open[-1].descriptor

    def _name_in_folder(self, where: bytes) -> bytes:
        """Enter the folder that a path is in; return the name there."""
        name = where[where.rfind(b"/") + 1 :]
        prefix = where[: len(where) - len(name)]
        if (
            prefix == self._prefix
            and path.is_name(name)
            and len(where) < path.PATH_MAX
        ):
            return name
        names = path.parts(where, self._budget.limits.depth)
        if not names:
            raise Refused("it takes the place of the copy itself")
        self._enter(names[:-1])
        if names[-1] == name:
            self._prefix = prefix
        return names[-1]

    def _make_folder(self, member: Member) -> None:
        names = path.parts(member.path, self._budget.limits.depth)
        folder = self._enter(names)
        os.fchmod(folder, member.mode & _PERMISSIONS | _OWNER_ALL)
        self._open[-1].mtime = member.mtime

    def _make_file(self, name: bytes, member: Member, archive: Archive) -> None:
        mode = member.mode & _PERMISSIONS
        try:
            file = os.open(name, _NEW_FILE, mode, dir_fd=self._folder)
        except FileExistsError:
            raise Refused(_TWICE) from None
        try:
            if member.size:
                archive.copy(file)
            os.utime(file, (member.mtime, member.mtime))
        finally:
            os.close(file)

    def _make_symlink(self, name: bytes, target: bytes) -> None:
        above = [entry.name for entry in self._open[1:]]
        try:
            path.check_target(target, len(above))
        except Refused:
            link = Link(path=b"/".join([*above, name]), target=target)
            self._left_out.keep(link)
            raise
        try:
            os.symlink(target, name, dir_fd=self._folder)
        except FileExistsError:
            raise Refused(_TWICE) from None

    def _make_hardlink(self, name: bytes, member: Member) -> None:
        *parents, source = path.parts(
            member.target, self._budget.limits.depth
        ) or [b""]
        with self._found(parents) as place:
            status = os.stat(source, dir_fd=place, follow_symlinks=False)
            if stat.S_ISLNK(status.st_mode):
                # The same text may mean another place in another folder.
                text = os.readlink(source, dir_fd=place)
                self._make_symlink(name, text)
            elif stat.S_ISREG(status.st_mode):
                # A reader of the copy reads it twice.
                self._budget.take(status.st_size)
                self._link(source, name, place)
            else:
                raise Refused("it is a hard link to a folder")

    def _link(self, source: bytes, name: bytes, place: int) -> None:
        try:
            os.link(
                source,
                name,
                src_dir_fd=place,
                dst_dir_fd=self._folder,
                follow_symlinks=False,
            )
        except FileExistsError:
            raise Refused(_TWICE) from None

    def _enter(self, names: list[bytes]) -> int:
        """Open a folder of the tree; it stays open until another is entered.

        Create it, and the folders above it, if needed.
        """
        self._prefix = None
        same = 0
        for entry, name in zip(self._open[1:], names, strict=False):
            if entry.name != name:
                break
            same += 1
        self._leave(same)
        for name in names[same:]:
            folder = _opened(self._open[-1].descriptor, name)
            self._open.append(_Open(name, folder))
        return self._folder

    def _leave(self, depth: int) -> None:
        """Close the folders below a depth, and set their times."""
        while len(self._open) > depth + 1:
            _set_mtime(self._open[-1])
            os.close(self._open.pop().descriptor)

    @contextlib.contextmanager
    def _found(self, names: list[bytes]) -> Iterator[int]:
        """Open a folder of the tree for the block.

        :raises Refused: it, or a file that the block opens, does not exist
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


def _opened(folder: int, name: bytes) -> int:
    """Open a folder in another one; create it if needed."""
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
