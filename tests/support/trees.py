# SPDX-License-Identifier: GPL-3.0-or-later
"""What an archive becomes on a disk."""

import hashlib
import os
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

#: As Incus unpacks an image, but for the devices that it leaves out.
_EXTRACT = ("tar", "--numeric-owner", "--xattrs-include=*", "-x")


def unpacked(archive: bytes | Path) -> tuple[int, dict[str, object]]:
    """Unpack an archive with GNU tar: its status, and all that it made."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        start = time.time_ns() - 10**9  # the kernel's clock ticks coarsely
        source = archive if isinstance(archive, Path) else Path("-")
        status = subprocess.run(
            [*_EXTRACT, "-C", name, "-f", source],
            input=None if isinstance(archive, Path) else archive,
            stderr=subprocess.DEVNULL,
            check=False,
        ).returncode
        return status, dict(_described(name, start))


def _described(root: str, start: int) -> Iterator[tuple[str, object]]:
    first_names: dict[int, str] = {}
    for folder, directories, files in os.walk(root):
        directories.sort()
        for name in sorted([*directories, *files]):
            path = Path(folder, name)
            where = str(path.relative_to(root))
            known = path.lstat()
            twin = first_names.setdefault(known.st_ino, where)
            yield where, (_attributes(path, known, start), twin)


def _attributes(
    path: Path, known: os.stat_result, start: int
) -> tuple[object, ...]:
    is_file = stat.S_ISREG(known.st_mode)
    return (
        known.st_mode,
        known.st_uid,
        known.st_gid,
        known.st_rdev,
        known.st_nlink,
        known.st_mtime_ns if known.st_mtime_ns < start else "now",
        # btrfs gives directories a size that depends on what is in them
        known.st_size if is_file else None,
        _blocks(path) if is_file else None,
        hashlib.sha256(path.read_bytes()).digest() if is_file else None,
        str(path.readlink()) if stat.S_ISLNK(known.st_mode) else None,
        {
            key: os.getxattr(path, key, follow_symlinks=False)
            for key in os.listxattr(path, follow_symlinks=False)
        },
    )


def _blocks(path: Path) -> int:
    """Return the blocks of a file, once the file system has chosen them."""
    with path.open("rb") as file:
        if path.stat().st_size > 1 << 16:  # smaller files have no holes
            os.fsync(file.fileno())
        return os.fstat(file.fileno()).st_blocks
