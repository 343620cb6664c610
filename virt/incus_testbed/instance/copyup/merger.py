# SPDX-License-Identifier: GPL-3.0-or-later
"""Move a copied folder's entries into a folder that exists.

No link there is followed: an earlier copy may have brought it.
"""

import contextlib
import errno
import os
import stat

from incus_testbed.instance.copyup.tree import LeftOut

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: rename() can't replace a folder that is not empty.
_HAS_ENTRIES = {errno.ENOTEMPTY, errno.EEXIST}
_no_file = contextlib.suppress(FileNotFoundError, IsADirectoryError)


def merge(source: int, target: int, left_out: LeftOut) -> None:
    """Move all entries of an open folder into another one.

    Folders with the same name are merged.  Existing files and links are
    replaced.  A file can't replace a folder: it is left out.
    """
    _merge(source, target, left_out, "")


def _merge(source: int, target: int, left_out: LeftOut, above: str) -> None:
    for name in os.listdir(source):
        # Without this, ext4 would write the file to the disk at the rename.
        with _no_file:
            os.unlink(name, dir_fd=target)
        try:
            os.rename(name, name, src_dir_fd=source, dst_dir_fd=target)
        except IsADirectoryError:
            left_out.add(
                os.fsencode(above + name),
                "a folder of that name is there already",
            )
        except OSError as error:
            if error.errno not in _HAS_ENTRIES:
                raise
            _merge_folders(name, source, target, left_out, f"{above}{name}/")


def _merge_folders(
    name: str, source: int, target: int, left_out: LeftOut, path: str
) -> None:
    here = os.open(name, _FOLDER, dir_fd=source)
    try:
        there = os.open(name, _FOLDER, dir_fd=target)
        try:
            status = os.fstat(here)
            _merge(here, there, left_out, path)
            os.fchmod(there, stat.S_IMODE(status.st_mode))
            os.utime(there, ns=(status.st_atime_ns, status.st_mtime_ns))
        finally:
            os.close(there)
    finally:
        os.close(here)
