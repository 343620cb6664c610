# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy a folder out of a guest: completely, or not at all."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from incus_testbed.instance.copyup.archive import Archive
from incus_testbed.instance.copyup.file_copy import prefix
from incus_testbed.instance.copyup.limits import Budget, Limits
from incus_testbed.instance.copyup.merger import merge
from incus_testbed.instance.copyup.source import Source
from incus_testbed.instance.copyup.tree import LeftOut, Tree
from incus_testbed.process import signals

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


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
            place = tempfile.mkdtemp(prefix=prefix(target), dir=target.parent)
        yield FolderCopy(Path(place), target)
    finally:
        with signals.held():
            if place:
                shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, _FOLDER | os.O_NOFOLLOW)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
