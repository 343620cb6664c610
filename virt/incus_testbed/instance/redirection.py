# SPDX-License-Identifier: GPL-3.0-or-later
"""Where subprocess.run's options lead the streams of a command in a guest.

subprocess itself does this only for a process of its own, and a process that
carries a command's streams costs as much as the command.
"""

import contextlib
import io
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any

from incus_testbed.incus.exec.streams import KEPT, NONE, Ends

#: A file, a descriptor, one of subprocess' constants, or None: this process'.
_Stream = IO[Any] | int | None


@dataclass(frozen=True, kw_only=True)
class Redirection:
    """The options of subprocess.run that are about streams.

    Those after universal_newlines are about a process of this host: they are
    accepted, and change nothing.
    """

    stdin: _Stream = None
    stdout: _Stream = None
    stderr: _Stream = None
    encoding: str | None = None
    errors: str | None = None
    text: bool | None = None
    universal_newlines: bool | None = None
    bufsize: int = -1
    close_fds: bool = True
    restore_signals: bool = True
    start_new_session: bool = False
    pipesize: int = -1

    @property
    def is_one_place(self) -> bool:
        """Whether output and errors go to the same place.

        As two streams they would arrive there in the wrong order.
        """
        if self.stderr == subprocess.STDOUT:
            return True
        if subprocess.PIPE in {self.stdout, self.stderr}:
            return False
        places = [_place(self.stdout, 1), _place(self.stderr, 2)]
        return places[0] is not None and places[0] == places[1]

    @contextlib.contextmanager
    def ends(self, given: Any) -> Iterator[Ends]:
        """Have where the streams lead; ``given`` is input, or None.

        :raises OSError: a descriptor is closed
        """
        with contextlib.ExitStack() as stack:
            nowhere = os.open(os.devnull, os.O_RDWR)
            stack.callback(os.close, nowhere)
            if given is not None:
                stdin = _as_file(self._encoded(given), stack)
            elif self.stdin in {subprocess.PIPE, subprocess.DEVNULL}:
                stdin = NONE
            else:
                stdin = _descriptor(self.stdin, 0, nowhere)
            stdout = _output(self.stdout, 1, nowhere)
            stderr = stdout
            if self.stderr != subprocess.STDOUT:
                stderr = _output(self.stderr, 2, nowhere)
            yield Ends(stdin, stdout, stderr, most=None)

    def kept(
        self, output: bytes, errors: bytes
    ) -> tuple[str | bytes | None, str | bytes | None]:
        """Return what CompletedProcess has of output and errors.

        :raises UnicodeDecodeError: text is wanted, and this is none
        """
        if self.stderr == subprocess.STDOUT:
            output += errors
        return (
            self._decoded(output) if self.stdout == subprocess.PIPE else None,
            self._decoded(errors) if self.stderr == subprocess.PIPE else None,
        )

    def _is_text(self) -> bool:
        wanted = self.text or self.universal_newlines
        return bool(wanted or self.encoding or self.errors)

    def _encoded(self, given: Any) -> bytes:
        if not self._is_text():
            return bytes(memoryview(given))
        file = io.BytesIO()
        text = io.TextIOWrapper(file, self.encoding, self.errors)
        text.write(given)
        text.flush()
        return file.getvalue()

    def _decoded(self, data: bytes) -> str | bytes:
        if not self._is_text():
            return data
        file = io.BytesIO(data)
        return io.TextIOWrapper(file, self.encoding, self.errors).read()


def _as_file(data: bytes, stack: contextlib.ExitStack) -> int:
    """Return a descriptor that gives the data."""
    file = stack.enter_context(os.fdopen(os.memfd_create("input"), "wb"))
    file.write(data)
    file.flush()
    file.seek(0)
    return file.fileno()


def _output(stream: _Stream, inherited: int, nowhere: int) -> int:
    if stream == subprocess.PIPE:
        return KEPT
    if stream == subprocess.DEVNULL:
        return nowhere
    return _descriptor(stream, inherited, nowhere)


def _descriptor(stream: _Stream, inherited: int, nowhere: int) -> int:
    """Return the descriptor of a stream; ``nowhere`` if this has none."""
    if stream is None:
        try:
            os.fstat(inherited)
        except OSError:
            return nowhere
        return inherited
    descriptor = _number(stream)
    os.fstat(descriptor)
    return descriptor


def _number(stream: IO[Any] | int) -> int:
    return stream if isinstance(stream, int) else stream.fileno()


def _place(stream: _Stream, inherited: int) -> tuple[int, int] | None:
    """Return device and inode of an output stream, if there is one."""
    if stream == subprocess.DEVNULL:
        return None
    try:
        status = os.fstat(inherited if stream is None else _number(stream))
    except OSError:  # closed: ends() will say so
        return None
    return status.st_dev, status.st_ino
