# SPDX-License-Identifier: GPL-3.0-or-later
"""Define one member of an archive, read or to be added."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One member of a root file system.

    ``path`` is relative to the root and normalised: no leading ``/`` or
    ``./``, no trailing ``/``.  ``mode`` is the permission bits.  ``target`` is
    the target of a symbolic link or a hard link; a hard link's is normalised
    like a path.  ``content`` is a regular file's bytes, or None where they
    were not kept.
    """

    path: str
    kind: Literal["file", "directory", "symlink", "hardlink", "other"]
    mode: int = 0o644
    target: str = ""
    content: bytes | None = None
