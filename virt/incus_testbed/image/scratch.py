# SPDX-License-Identifier: GPL-3.0-or-later
"""Large temporary files that no crash can leave behind."""

import contextlib
import errno
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from incus_testbed import errors

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def file() -> Iterator[IO[bytes]]:
    """Yield a file without a name: the kernel removes it, come what may.

    :raises errors.NoSpace: it could not grow any more
    :raises errors.Denied: no file can be made where it should be
    """
    folder = _folder()
    try:
        unnamed = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
    except OSError as error:
        raise errors.Denied(
            f"No temporary file can be made in {folder}",
            details=str(error),
            resolution="Set TMPDIR to a folder with space for the image.",
        ) from error
    with telling_full(), unnamed:
        yield unnamed


@contextlib.contextmanager
def telling_full() -> Iterator[None]:
    """Raise errors.NoSpace where a temporary file could not grow any more."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise full() from error


def check_room(file: IO[bytes], size: int) -> None:
    """Refuse to begin what will not fit where a temporary file is.

    :raises errors.NoSpace: there are less than size bytes
    """
    free = _free(os.fstatvfs(file.fileno()))
    if free < size:
        error = full(
            f"{size / 1e6:.0f} MB are needed, and {free / 1e6:.0f} MB free."
        )
        error.lacking = size - free
        raise error


def room() -> int:
    """Return the bytes that are free for temporary files."""
    return _free(os.statvfs(_folder()))


def _free(there: os.statvfs_result) -> int:
    return there.f_bavail * there.f_frsize


def full(details: str = "") -> errors.NoSpace:
    """Return the error for a temporary file that finds no room."""
    return errors.NoSpace(
        f"No space left for the converted image in {_folder()}",
        details=details,
        resolution="Make room, or point TMPDIR at a larger disk.",
    )


def tells_full(message: str) -> bool:
    """Tell whether a program's message is that a disk is full."""
    return any(os.strerror(number) in message for number in _FULL)


def _folder() -> Path:
    # Not /tmp, which is often memory.
    return Path(os.environ.get("TMPDIR") or "/var/tmp")  # noqa: S108


def path(unnamed: IO[bytes]) -> str:
    """Return a path by which a child process can open an unnamed file."""
    return f"/proc/{os.getpid()}/fd/{unnamed.fileno()}"
