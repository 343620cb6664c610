# SPDX-License-Identifier: GPL-3.0-or-later
"""Have standard streams that can be used: also closed ones, and full ones."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO, cast

from incus_testbed import errors
from incus_testbed.incus.exec.forked import settle


@contextlib.contextmanager
def usable() -> Iterator[None]:
    """Have all three open within the block, and standard output watched.

    A closed one is /dev/null.  If standard output can't be written, such as
    to a full disk, this raises errors.TestbedError; BrokenPipeError, if its
    reader is gone.  Then what is left of the output is given up.
    """
    settle()
    sys.stdin = sys.stdin or open(0, closefd=False)  # noqa: SIM115
    sys.stdout = sys.stdout or _open_for_writing(1)
    sys.stderr = sys.stderr or _open_for_writing(2)
    with contextlib.redirect_stdout(cast("TextIO", _Watched(sys.stdout))):
        yield
        sys.stdout.flush()


def _open_for_writing(descriptor: int) -> TextIO:
    return open(descriptor, "w", closefd=False)


class _Watched:
    """A stream of text whose failure to write is one of our errors."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        with _sense():
            return self._stream.write(text)

    def flush(self) -> None:
        with _sense():
            self._stream.flush()


@contextlib.contextmanager
def _sense() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        # Python has the rest in memory, and would try again when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        if isinstance(error, BrokenPipeError):
            raise
        raise errors.TestbedError(
            f"standard output can't be written: {error.strerror}"
        ) from error
