# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks between processes of one user; they end with their process."""

import contextlib
import fcntl
import hashlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from incus_testbed import errors

_POLL = 0.1


@contextlib.contextmanager
def held(
    name: str,
    *,
    timeout: float,
    on_wait: Callable[[], None] | None = None,
    while_waiting: Callable[[], None] | None = None,
) -> Iterator[None]:
    """Hold the lock of a name; the kernel frees it when this process ends.

    While another process holds it, ``on_wait`` is called once, and
    ``while_waiting`` several times a second.  An exception in either of them
    ends the wait.

    :raises errors.TimedOut: another process held it for ``timeout`` seconds
    """
    path = _folder() / hashlib.sha256(os.fsencode(name)).hexdigest()
    deadline = time.monotonic() + timeout
    while (descriptor := _try(path)) is None:
        if on_wait:
            on_wait()
            on_wait = None
        if while_waiting:
            while_waiting()
        if time.monotonic() > deadline:
            raise errors.TimedOut(
                f"Another process has worked on {name} for {timeout:.0f} s",
                resolution=f"It holds {path}; see: fuser {path}",
            )
        time.sleep(_POLL)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def abandoned() -> list[Path]:
    """Return the files of this user's locks that no process holds."""
    return [path for path in _folder().iterdir() if _is_free(path)]


def remove_abandoned(path: Path) -> None:
    """Remove such a file, unless a process holds the lock by now."""
    if (descriptor := _try(path)) is not None:
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _is_free(path: Path) -> bool:
    """Tell whether no process holds a lock.

    To check it, this function holds the lock for a moment, which does no harm.
    """
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (BlockingIOError, FileNotFoundError):
        return False
    return True


def _try(path: Path) -> int | None:
    """Open and lock the file of this path; None if another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # If its last holder has removed the file, a lock on it has no effect.
        if os.fstat(descriptor).st_ino == path.stat().st_ino:
            return descriptor
    except (BlockingIOError, FileNotFoundError):
        pass
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def _folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    folder = Path(cache).expanduser() / "incus-testbed"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise errors.Denied(
            f"No lock can be made in {folder}",
            details=str(error),
            resolution="Set XDG_CACHE_HOME to a folder that you can write to.",
        ) from error
    return folder
