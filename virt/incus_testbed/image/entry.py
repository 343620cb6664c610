# SPDX-License-Identifier: GPL-3.0-or-later
"""What is seen in an archive, and what is added to it."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One member of a root file system.

    ``path`` is relative to the root and normalised: no leading ``/`` or
    ``./``, no trailing ``/``.  ``mode`` is the permission bits.  ``target`` is
    where a symbolic link (or, with the same normalisation as a path, a hard
    link) points; ``content`` is a regular file's bytes, or None where they
    were not kept.
    """

    path: str
    kind: Literal["file", "directory", "symlink", "hardlink", "other"]
    mode: int = 0o644
    target: str = ""
    content: bytes | None = None
