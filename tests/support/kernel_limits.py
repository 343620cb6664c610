# SPDX-License-Identifier: GPL-3.0-or-later
"""Room in the kernel for many guests at once."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

_INOTIFY = Path("/proc/sys/fs/inotify/max_user_instances")
_WANTED = 1024


@contextlib.contextmanager
def for_many() -> Iterator[None]:
    """Have the kernel let many guests of one user id watch files.

    Each systemd wants about a dozen of what a bare machine has 128 of.  In a
    guest it can't be changed: there it has to be done outside.
    """
    before = _INOTIFY.read_text()
    if int(before) >= _WANTED or not os.access(_INOTIFY, os.W_OK):
        yield
        return
    _INOTIFY.write_text(f"{_WANTED}\n")
    try:
        yield
    finally:
        _INOTIFY.write_text(before)
