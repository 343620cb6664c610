# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy a file out of a guest: completely, or not at all."""

import contextlib
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from incus_testbed.instance.copyup.limits import Budget, Limits
from incus_testbed.instance.copyup.source import (
    Source,
    end_hole,
    write,
    write_all,
)
from incus_testbed.process import signals

#: A temporary name begins with at most this many characters of the target's.
_NAME_LENGTH = 100


class FileCopy:
    """A copy of a file, next to its target until it is complete."""

    def __init__(self, place: Path, file: int, target: Path) -> None:
        """Use ``place``, an empty file; ``file`` is its open descriptor."""
        self._place = place
        self._file = file
        self._target = target

    def receive(self, pieces: Iterable[memoryview], limits: Limits) -> None:
        """Take the file's content from a guest, in place of what is there.

        :raises errors.LimitReached: it exceeds the limits
        :raises errors.NoSpace: it does not fit on the disk
        """
        os.lseek(self._file, 0, os.SEEK_SET)
        os.ftruncate(self._file, 0)
        budget = Budget(limits, self._file)
        for data in pieces:
            budget.take(len(data))
            write(self._file, data)
        end_hole(self._file)

    def cut(self, mark: bytes) -> bool:
        """Remove a mark from the content's end; tell whether it was there."""
        end = os.fstat(self._file).st_size - len(mark)
        if end < 0 or os.pread(self._file, len(mark), end) != mark:
            return False
        os.ftruncate(self._file, end)
        return True

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
            made = tempfile.mkstemp(prefix=prefix(target), dir=target.parent)
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


def prefix(target: Path) -> str:
    """Return how the name of an unfinished copy begins, which is hidden."""
    return f".{target.name[:_NAME_LENGTH]}."
