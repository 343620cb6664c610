# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks between processes of one user; a lock ends with its process."""

import contextlib
import fcntl
import hashlib
import logging
import os
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
    """Open one of a few files, so that they don't have to be removed.

    If two names share a file, they wait for each other.  This is rare and does
    no harm, because a process holds one lock at a time.
    """
    digest = hashlib.sha256(os.fsencode(name)).digest()
    slot = int.from_bytes(digest[:8], "big") % _SLOTS
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(cache).expanduser() / "incus-testbed"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        return (folder / f"lock-{slot:03}").open("ab")
    except OSError as error:
        raise errors.Denied(
            f"No lock can be made in {folder}",
            details=str(error),
            resolution="Set XDG_CACHE_HOME to a folder that you can write to.",
        ) from error
