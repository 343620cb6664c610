# SPDX-License-Identifier: GPL-3.0-or-later
"""Compressed streams, in and out, through the programs that know them."""

import contextlib
import fcntl
import os
import select
import subprocess
from collections.abc import Callable, Iterator
from typing import IO

from incus_testbed import errors, process
from incus_testbed.image import scratch
from incus_testbed.image.budget import Budget, Meter
from incus_testbed.image.source import CHUNK, Source

#: What a file that zstd packed begins with.
ZSTD = b"\x28\xb5\x2f\xfd"
_UNZSTD = ("zstd", "-q", "-dc", "--memory={memory}")

# gzip and bzip2 need a few MB, whatever the file says.
_DECOMPRESSORS = (
    (b"\x1f\x8b", ("gzip", "-dc")),
    (b"BZh", ("bzip2", "-dc")),
    (b"\xfd7zXZ\0", ("xz", "-T0", "-dc", "--memlimit-decompress={memory}")),
    (ZSTD, _UNZSTD),
    (b"\x50\x2a\x4d\x18", _UNZSTD),  # what pzstd begins with
)

# Fast rather than small: Incus unpacks the result once and throws it away.
_COMPRESSOR = ("zstd", "-q", "-T0", "-1", "-c")

#: What xz and zstd say where the file needs more memory than they may use.
_TOO_LARGE = ("memory usage limit", "too much memory", "window size larger")

_CUT_SHORT = ("unexpected end", "ends unexpectedly", "premature end")


def decompressor(head: bytes, budget: Budget) -> tuple[str, ...] | None:
    """Return the command that unpacks what begins with head, if any does."""
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

    It returns up to as many bytes as asked for, and none at the end, when
    source has been read whole.

    :raises errors.BadImage: (by the read function) the decompressor refuses
    :raises errors.TimedOut: (by the read function) the time is used up
    """
    with process.stream(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        yield _Decompressor(source, child, meter).read


class _Decompressor:
    """Feeds a child process and empties it by turns, without a thread."""

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
        # A roomier pipe spares changes of process by the ten thousand.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._stdout, fcntl.F_SETPIPE_SZ, CHUNK)

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
        if not self._pending:
            self._pending = memoryview(self._source.read(CHUNK))
        if not self._pending:
            self._close_stdin()
            return
        try:
            written = os.write(self._stdin.fileno(), self._pending)
        except BlockingIOError:  # poll promises less room than a page
            return
        except BrokenPipeError:  # it has ended: its status will say why
            self._close_stdin()
            return
        self._pending = self._pending[written:]

    def _close_stdin(self) -> None:
        self._poll.unregister(self._stdin)
        self._stdin.close()

    def _finish(self) -> None:
        status, complaint = _end(self._child)
        if status < 0:
            raise errors.CommandFailed(
                f"The decompressor was killed by signal {-status}"
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
                resolution="Fetch or make it anew.",
            )
        self._source.drain()


class Compressor:
    """A zstd that writes to a file; what it is given is counted."""

    def __init__(self, child: "subprocess.Popen[bytes]") -> None:
        """Write to the child's standard input."""
        assert child.stdin  # noqa: S101
        self._child = child
        self._stdin = child.stdin
        self.size = 0

    def write(self, data: bytes | memoryview) -> None:
        """Compress some more.

        :raises errors.NoSpace: the disk is full
        :raises errors.CommandFailed: zstd died of something else
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
            f"zstd failed with status {status}", details=complaint
        )


@contextlib.contextmanager
def compressor(file: IO[bytes]) -> Iterator[Compressor]:
    """Yield something to write to; it comes out in file, compressed.

    The file must be one that the operating system knows.  What is in it is
    whole only after ``finish``.
    """
    file.flush()
    with process.stream(
        _COMPRESSOR, stdin=subprocess.PIPE, stdout=file
    ) as child:
        yield Compressor(child)


def _end(child: "subprocess.Popen[bytes]") -> tuple[int, str]:
    """Wait for a child; return its status and what it said."""
    assert child.stderr  # noqa: S101
    said = child.stderr.read().decode(errors="replace")
    return child.wait(), said.strip()
