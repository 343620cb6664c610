# SPDX-License-Identifier: GPL-3.0-or-later
"""Make an xfs file system of a folder, without a mount."""

import stat
from collections.abc import Iterator
from pathlib import Path

from tests.support import disks


def make(root: Path, part: Path) -> None:
    """Make one in a file, whose size it has, with the label root.

    :raises ImageError: mkfs.xfs failed
    """
    plan = part.with_suffix(".xfs")
    plan.write_text("\n".join(["/dev/null", "0 0", *_plan(root), "$", ""]))
    disks.run("mkfs.xfs", "-q", "-L", "root", "-p", plan, part)


def _plan(folder: Path) -> Iterator[str]:
    """Yield the lines by which mkfs.xfs copies a folder, as in mkfs.xfs(8)."""
    yield _planned(folder)
    for child in sorted(folder.iterdir()):
        mode = child.lstat().st_mode
        if " " in child.name:  # the format has no way to say it
            continue
        if stat.S_ISDIR(mode):
            first, *rest = _plan(child)
            yield f"{child.name} {first}"
            yield from rest
            yield "$"
        elif stat.S_ISLNK(mode):
            yield f"{child.name} {_planned(child)} {child.readlink()}"
        elif stat.S_ISREG(mode):
            yield f"{child.name} {_planned(child)} {child}"


def _planned(path: Path) -> str:
    """Return an inode's type, mode and owners."""
    found = path.lstat()
    kind = {stat.S_IFDIR: "d", stat.S_IFLNK: "l"}.get(
        stat.S_IFMT(found.st_mode), "-"
    )
    user = "u" if found.st_mode & stat.S_ISUID else "-"
    group = "g" if found.st_mode & stat.S_ISGID else "-"
    bits = found.st_mode & 0o777
    return f"{kind}{user}{group}{bits:03o} {found.st_uid} {found.st_gid}"
