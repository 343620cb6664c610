# SPDX-License-Identifier: GPL-3.0-or-later
"""Make pipes that pass an image's bytes with few changes of process."""

import contextlib
import fcntl
from typing import IO

from incus_testbed.image.stream.source import CHUNK


def widen(pipe: IO[bytes] | int) -> None:
    """Let a pipe hold as many bytes as we read and write at once.

    Linux gives it 64 KiB.  With that, a writer of a large piece sleeps until
    the reader has taken it: importing 195 MB took a fifth longer.  A user with
    many wide pipes gets no more (pipe(7)), and the pipe stays as it is.
    """
    with contextlib.suppress(OSError):
        fcntl.fcntl(pipe, fcntl.F_SETPIPE_SZ, CHUNK)
