# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks between processes of one user; a lock ends with its process."""

import contextlib
import fcntl
import hashlib
import logging
import os
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from incus_testbed import errors

log = logging.getLogger(__name__)

_POLL = 0.1
_SLOTS = 256


@contextlib.contextmanager
def held(
    name: str,
    *,
    timeout: float,
    while_waiting: Callable[[], None] | None = None,
) -> Iterator[None]:
    """Hold the lock of a name; the kernel frees it when this process ends.

    While another process holds it, ``while_waiting`` is called several times a
    second.  An exception that it raises ends the wait.

    :raises errors.TimedOut: another process held it for ``timeout`` seconds
    """
    deadline = time.monotonic() + timeout
    is_told = False
    with _opened(name) as file:
        while not _try(file):
            if not is_told:
                log.warning("another process works on %s: waiting for it", name)
                is_told = True
            if while_waiting:
                while_waiting()
            if time.monotonic() > deadline:
                raise errors.TimedOut(
                    f"Another process has worked on {name} for {timeout:.0f} s",
                    resolution=f"See which one: fuser {file.name}",
                )
            time.sleep(_POLL)
        yield


def _try(file: IO[bytes]) -> bool:
    """Try to lock an open file; tell whether that worked."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _opened(name: str) -> IO[bytes]:
    """Open a lock's file, in a folder that only this user can write to.

    In another folder, another user could hold the lock for ever, or put a link
    or a FIFO in its place.
    """
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(cache).expanduser() / "incus-testbed"
    try:
        for each in (*reversed(folder.parents), folder):
            each.mkdir(mode=0o700, exist_ok=True)
        directory = os.open(folder, os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            _check_owner(directory)
            return _opened_in(directory, folder / f"lock-{_slot(name):03}")
        finally:
            os.close(directory)
    except OSError as error:
        raise errors.Denied(
            f"No lock can be made in {folder}",
            details=str(error),
            resolution="Set XDG_CACHE_HOME to a folder that you, and no other"
            " user, can write to.",
        ) from error


def _slot(name: str) -> int:
    """Return the number of a name's file, so that files need no removal.

    If two names share a file, they wait for each other.  This is rare and does
    no harm, because a process holds one lock at a time.
    """
    digest = hashlib.sha256(os.fsencode(name)).digest()
    return int.from_bytes(digest[:8], "big") % _SLOTS


def _check_owner(directory: int) -> None:
    """Check that a folder is this user's, and that no other can write to it.

    :raises PermissionError: it is not
    """
    found = os.fstat(directory)
    if found.st_uid != os.geteuid():
        raise PermissionError("it belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise PermissionError("other users can write to it")


def _opened_in(directory: int, path: Path) -> IO[bytes]:
    """Open a regular file in a folder, or make it."""

    def opener(_: str, flags: int) -> int:
        # A FIFO would keep this process waiting.
        careful = flags | os.O_NOFOLLOW | os.O_NONBLOCK
        return os.open(path.name, careful, 0o600, dir_fd=directory)

    file = open(path, "ab", opener=opener)  # noqa: SIM115 - the caller closes it
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise FileExistsError(f"{path} is not a regular file")
    return file
