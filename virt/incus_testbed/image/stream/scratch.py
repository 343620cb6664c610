# SPDX-License-Identifier: GPL-3.0-or-later
"""Make large temporary files that no crash can leave behind."""

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
    """Yield a file without a name, which the kernel removes in every case.

    :raises errors.NoSpace: the file can't grow any more
    :raises errors.Denied: no file can be made in the folder
    """
    place = folder()
    try:
        unnamed = tempfile.TemporaryFile(dir=place)  # noqa: SIM115
    except OSError as error:
        raise errors.Denied(
            f"No temporary file can be made in {place}",
            details=str(error),
            resolution="Set TMPDIR to a folder with space for the image.",
        ) from error
    with telling_full(), unnamed:
        yield unnamed


@contextlib.contextmanager
def telling_full() -> Iterator[None]:
    """Raise errors.NoSpace if a temporary file can't grow any more."""
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise full() from error


def check_room(file: IO[bytes], size: int) -> None:
    """Check that size bytes are free on the file system of a file.

    :raises errors.NoSpace: fewer bytes are free
    """
    free = room(file.fileno())
    if free < size:
        error = full(
            f"{size / 1e6:.0f} MB are needed, and {free / 1e6:.0f} MB are free."
        )
        error.lacking = size - free
        raise error


def room(file: int | None = None) -> int:
    """Return the bytes that are free for a file, by default a temporary one."""
    there = os.statvfs(folder() if file is None else file)
    return there.f_bavail * there.f_frsize


def full(details: str = "") -> errors.NoSpace:
    """Return the error for a temporary file that has no room to grow."""
    return errors.NoSpace(
        f"No space left for the converted image in {folder()}",
        details=details,
        resolution="Make room, or point TMPDIR at a larger disk.",
    )


def tells_full(message: str) -> bool:
    """Tell whether a program's message says that a disk is full."""
    return any(os.strerror(number) in message for number in _FULL)


def folder() -> Path:
    """Return where large temporary files go."""
    # Not /tmp, which is often memory.
    return Path(os.environ.get("TMPDIR") or "/var/tmp")  # noqa: S108


def path(unnamed: IO[bytes]) -> str:
    """Return a path with which a child process can open an unnamed file."""
    return f"/proc/{os.getpid()}/fd/{unnamed.fileno()}"
