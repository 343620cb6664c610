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


@contextlib.contextmanager
def file() -> Iterator[IO[bytes]]:
    """Yield a file without a name: the kernel removes it, come what may.

    :raises errors.NoSpace: it could not grow any more
    :raises errors.Denied: no file can be made where it should be
    """
    # Not /tmp, which is often memory.
    folder = Path(os.environ.get("TMPDIR") or "/var/tmp")  # noqa: S108
    try:
        unnamed = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115
    except OSError as error:
        raise errors.Denied(
            f"No temporary file can be made in {folder}",
            details=str(error),
            resolution="Set TMPDIR to a folder with space for the image.",
        ) from error
    try:
        with unnamed:
            yield unnamed
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        raise errors.NoSpace(
            f"{folder} is full",
            resolution="Free space, or set TMPDIR to a folder that has some.",
        ) from error


def path(unnamed: IO[bytes]) -> str:
    """Return a path by which a child process can open an unnamed file."""
    return f"/proc/{os.getpid()}/fd/{unnamed.fileno()}"
