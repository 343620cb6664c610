# SPDX-License-Identifier: GPL-3.0-or-later
"""What was copied, moved to where there may be something already.

Nothing there is followed: it may be a link that an earlier copy brought.
"""

import contextlib
import errno
import os
import stat

from incus_testbed.instance.copyup.tree import LeftOut

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
#: A folder can't take the place of one that has something in it.
_HAS_ENTRIES = {errno.ENOTEMPTY, errno.EEXIST}
_no_file = contextlib.suppress(FileNotFoundError, IsADirectoryError)


def merge(source: int, target: int, left_out: LeftOut) -> None:
    """Move all entries of an open folder into another one.

    Folders of one name are merged.  Files and links that are there are
    replaced.  A file can't replace a folder: it is left out.
    """
    _merge(source, target, left_out, "")


def _merge(source: int, target: int, left_out: LeftOut, above: str) -> None:
    for name in os.listdir(source):
        # A rename that replaces a file makes ext4 write it to the disk first.
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
