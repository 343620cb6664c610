# SPDX-License-Identifier: GPL-3.0-or-later
"""Decompress and compress streams with xz, zstd, gzip and bzip2."""

import contextlib
import os
import select
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from incus_testbed import errors
from incus_testbed.image.stream import pipe, scratch
from incus_testbed.image.stream.source import CHUNK, Source
from incus_testbed.limits.budget import Budget, Meter
from incus_testbed.process import programs


@dataclass(frozen=True, kw_only=True)
class Form:
    """A compression that we write: the program, and a file's first bytes."""

    program: str
    magic: bytes
    options: tuple[str, ...]


#: Fast rather than small: Incus unpacks the result once and throws it away.
ZSTD = Form(
    program="zstd", magic=b"\x28\xb5\x2f\xfd", options=("-q", "-T0", "-1")
)
#: For servers without zstd: five times its processor time, and 6 % larger.
GZIP = Form(program="gzip", magic=b"\x1f\x8b", options=("-q", "-1", "-n"))
#: Twenty-five times the processor time of zstd, and 15 % smaller.
XZ = Form(program="xz", magic=b"\xfd7zXZ\0", options=("-q", "-T0", "-0"))
FORMS = {form.program: form for form in (ZSTD, GZIP, XZ)}

_UNZSTD = ("zstd", "-q", "-dc", "--memory={memory}")

# gzip and bzip2 need no limit: they use a few MB for any file.
_DECOMPRESSORS = (
    (GZIP.magic, ("gzip", "-dc")),
    (b"BZh", ("bzip2", "-dc")),
    (XZ.magic, ("xz", "-T0", "-dc", "--memlimit-decompress={memory}")),
    (ZSTD.magic, _UNZSTD),
    (b"\x50\x2a\x4d\x18", _UNZSTD),  # a file that pzstd made
)

#: Messages of xz and zstd if the file needs more memory than they may use.
_TOO_LARGE = ("memory usage limit", "too much memory", "window size larger")

_CUT_SHORT = ("unexpected end", "ends unexpectedly", "premature end")


def decompressor(head: bytes, budget: Budget) -> tuple[str, ...] | None:
    """Return the command that unpacks a file that begins with ``head``.

    Returns None if the file is not compressed in a known way.
    """
    for magic, argv in _DECOMPRESSORS:
        if head.startswith(magic):
            memory = budget.decompressor_bytes
            return tuple(word.format(memory=memory) for word in argv)
    return None


@contextlib.contextmanager
def decompressed(
    source: Source, argv: tuple[str, ...], meter: Meter
) -> Iterator[Callable[[int], bytes]]:
    """Run the source through a decompressor; yield a read function.

    The function returns at most as many bytes as requested, and none at the
    end, when the whole source has been read.

    :raises errors.BadImage: (by the read function) the file can't be unpacked
    :raises errors.TimedOut: (by the read function) the time is used up
    """
    with programs.stream(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        yield _Decompressor(source, child, meter).read


class _Decompressor:
    """Writes to a child process and reads from it by turns, in one thread.

    With a second thread, which may be waiting for the source, Ctrl-C would
    hang.
    """

    def __init__(
        self, source: Source, child: "subprocess.Popen[bytes]", meter: Meter
    ) -> None:
        self._meter = meter
        assert child.stdin  # noqa: S101
        assert child.stdout  # noqa: S101
        self._source = source
        self._child = child
        self._stdin = child.stdin
        self._stdout = child.stdout
        self._pending = memoryview(b"")
        self._poll = select.poll()
        self._poll.register(self._stdout, select.POLLIN)
        self._poll.register(self._stdin, select.POLLOUT)
        os.set_blocking(self._stdin.fileno(), False)
        pipe.widen(self._stdin)
        pipe.widen(self._stdout)

    def read(self, size: int) -> bytes:
        while True:
            seconds = self._meter.remaining()
            ready = {fd for fd, _ in self._poll.poll(seconds * 1000)}
            if not self._stdin.closed and self._stdin.fileno() in ready:
                self._feed()
            if self._stdout.fileno() in ready:
                data = os.read(self._stdout.fileno(), size)
                if not data:
                    self._finish()
                return data

    def _feed(self) -> None:
        self._pending = self._pending or memoryview(self._source.read(CHUNK))
        try:
            written = os.write(self._stdin.fileno(), self._pending)
        except BlockingIOError:  # poll may report less room than a page
            return
        except BrokenPipeError:  # the child ended; its status tells why
            written = 0
        self._pending = self._pending[written:]
        if not written:  # the source or the child has ended
            self._poll.unregister(self._stdin)
            self._stdin.close()

    def _finish(self) -> None:
        status, complaint = _end(self._child)
        if status < 0:
            raise errors.CommandFailed(
                f"The decompressor {programs.ending(status)}"
            )
        if any(sign in complaint.lower() for sign in _TOO_LARGE):
            raise self._meter.budget.refusal(
                "decompressor_bytes",
                "The file needs too much memory to be unpacked",
                f"{complaint.splitlines()[0]}.",
            )
        if status:
            cut = any(sign in complaint.lower() for sign in _CUT_SHORT)
            raise errors.BadImage(
                "The file is cut short" if cut else "The file is corrupt",
                details=complaint or f"The decompressor's status is {status}.",
                resolution="Download it again, or build it again.",
            )
        self._source.drain()


class Compressor:
    """A process that compresses to a file; counts the bytes it is given."""

    def __init__(self, child: "subprocess.Popen[bytes]", form: Form) -> None:
        """Write to the child's standard input."""
        assert child.stdin  # noqa: S101
        self._program = form.program
        self._child = child
        self._stdin = child.stdin
        pipe.widen(self._stdin)
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Compress some more.

        :raises errors.NoSpace: the disk is full
        :raises errors.CommandFailed: the program failed for another reason
        """
        try:
            self._stdin.write(data)
        except BrokenPipeError:
            raise self._failure() from None
        self.size += len(data)

    def finish(self) -> None:
        """Wait until everything is in the file; raises as ``write`` does."""
        try:
            self._stdin.close()
        except BrokenPipeError:
            raise self._failure() from None
        if self._child.wait():
            raise self._failure()

    def _failure(self) -> errors.TestbedError:
        status, complaint = _end(self._child)
        if scratch.tells_full(complaint):
            return scratch.full(complaint)
        return errors.CommandFailed(
            f"{self._program} {programs.ending(status)}", details=complaint
        )


@contextlib.contextmanager
def compressor(file: IO[bytes], form: Form) -> Iterator[Compressor]:
    """Yield a compressor that writes to ``file``.

    The file must have a descriptor.  It is complete only after ``finish``.
    """
    file.flush()
    with programs.stream(
        (form.program, *form.options, "-c"), stdin=subprocess.PIPE, stdout=file
    ) as child:
        yield Compressor(child, form)


def _end(child: "subprocess.Popen[bytes]") -> tuple[int, str]:
    """Wait for a child; return its status and its standard error."""
    assert child.stderr  # noqa: S101
    said = child.stderr.read().decode(errors="replace")
    return child.wait(), said.strip()
