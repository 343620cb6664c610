# SPDX-License-Identifier: GPL-3.0-or-later
"""Room in the kernel for many guests at once."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

_INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
_WANTED = 1024
#: Who wants room holds a lock on it; it has the value of before.
_BEFORE = Path("/run/incus-testbed-tests.limits")


@contextlib.contextmanager
def for_many() -> Iterator[None]:
    """Have the kernel let many guests of one user id watch files.

    Each systemd wants about a dozen of what a bare machine has 128 of.  In a
    guest it can't be changed: there it has to be done outside.  Of several
    processes that want it, the last one puts the old value back.
    """
    if not os.access(_INOTIFY, os.W_OK):
        yield
        return
    with _BEFORE.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        limit = _INOTIFY.read_text()
        if int(limit) < _WANTED:
            file.truncate(0)
            file.write(limit)
            file.flush()
            _INOTIFY.write_text(f"{_WANTED}\n")
        try:
            yield
        finally:
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _put_back(file)


def _put_back(file: IO[str]) -> None:
    file.seek(0)
    if before := file.read():
        _INOTIFY.write_text(before)
    file.truncate(0)
