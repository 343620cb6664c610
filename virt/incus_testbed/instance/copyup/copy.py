# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy a folder or a file out of a guest: completely, or not at all."""

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

from incus_testbed.instance.copyup.archive import Archive
from incus_testbed.instance.copyup.limits import Budget, Limits
from incus_testbed.instance.copyup.merger import merge
from incus_testbed.instance.copyup.source import (
    Source,
    end_hole,
    write,
    write_all,
)
from incus_testbed.instance.copyup.tree import LeftOut, Tree
from incus_testbed.process import signals

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
#: A temporary name begins with at most this many characters of the target's.
_NAME_LENGTH = 100


class FolderCopy:
    """A copy of a folder, next to its target until it is complete."""

    def __init__(self, place: Path, target: Path) -> None:
        """Use ``place``, an empty folder on the disk of the target."""
        self._place = place
        self._target = target
        self.left_out = LeftOut()

    def receive(self, source: Source, limits: Limits) -> None:
        """Unpack a tar archive from a guest into the folder.

        :raises errors.LimitReached: it exceeds the limits
        :raises errors.NoSpace: it does not fit on the disk
        :raises errors.CommandFailed: the archive is missing or damaged
        """
        with _opened(self._place) as folder:
            tree = Tree(folder, Budget(limits, folder), self.left_out)
            try:
                tree.fill(Archive(source))
            finally:
                tree.close()

    def finish(self) -> None:
        """Rename it to its target; merge it into a target that exists."""
        try:
            target = os.open(self._target, _FOLDER)
        except FileNotFoundError:
            self._place.rename(self._target)
            return
        try:
            with _opened(self._place) as folder:
                merge(folder, target, self.left_out)
        finally:
            os.close(target)


@contextlib.contextmanager
def folder_beside(target: Path) -> Iterator[FolderCopy]:
    """Yield a folder to copy into; remove it unless it was finished."""
    place = None
    try:
        with signals.held():
            place = tempfile.mkdtemp(prefix=_prefix(target), dir=target.parent)
        yield FolderCopy(Path(place), target)
    finally:
        with signals.held():
            if place:
                shutil.rmtree(place, ignore_errors=True)


class FileCopy:
    """A copy of a file, next to its target until it is complete."""

    def __init__(self, place: Path, file: int, target: Path) -> None:
        """Use ``place``, an empty file; ``file`` is its open descriptor."""
        self._place = place
        self._file = file
        self._target = target

    def receive(self, source: Source, limits: Limits) -> None:
        """Read the file's content from a guest.

        :raises errors.LimitReached: it exceeds the limits
        :raises errors.NoSpace: it does not fit on the disk
        """
        budget = Budget(limits, self._file)
        for data in source.rest():
            budget.take(len(data))
            write(self._file, data)
        end_hole(self._file)

    def finish(self) -> None:
        """Rename it to its target, and replace a file that is there."""
        os.fchmod(self._file, _mode_for(self._target))
        self._place.replace(self._target)


@contextlib.contextmanager
def file_beside(target: Path) -> Iterator[FileCopy]:
    """Yield a file to copy into; remove it unless it was finished."""
    made = None
    try:
        with signals.held():
            made = tempfile.mkstemp(prefix=_prefix(target), dir=target.parent)
        file, place = made
        yield FileCopy(Path(place), file, target)
    finally:
        with signals.held():
            if made:
                os.close(made[0])
                Path(made[1]).unlink(missing_ok=True)


def copy_to_device(source: Source, target: Path) -> None:
    """Write a file of a guest to a device or a FIFO."""
    with target.open("wb", buffering=0) as device:
        for data in source.rest():
            write_all(device.fileno(), data)


def is_device(target: Path) -> bool:
    """Tell whether the target exists and is neither a file nor a folder."""
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        return False
    return not (stat.S_ISREG(mode) or stat.S_ISDIR(mode))


def _mode_for(target: Path) -> int:
    """Return the permissions of the file to replace, or those of a new file."""
    with contextlib.suppress(FileNotFoundError):
        status = target.lstat()
        if stat.S_ISREG(status.st_mode):
            return status.st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, _FOLDER | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _prefix(target: Path) -> str:
    return f".{target.name[:_NAME_LENGTH]}."
