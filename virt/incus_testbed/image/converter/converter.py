# SPDX-License-Identifier: GPL-3.0-or-later
"""Starts the converting process, feeds it, and waits for its answer."""

import contextlib
import dataclasses
import fcntl
import hashlib
import io
import os
import select
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import IO

from incus_testbed import errors, process, sandbox
from incus_testbed.image.budget import Meter
from incus_testbed.image.converter import answer
from incus_testbed.image.converter.answer import Result
from incus_testbed.image.converter.order import Order
from incus_testbed.image.source import CHUNK, Readable, regular_file

#: Seconds between two looks at whether somebody wants this to end.
_PACE = 0.2

#: Seconds for a process to end that says no more.
_GRACE = 5.0

#: Bytes of one message, and of what is shown of standard error.
_LONGEST = 1 << 18
_LONGEST_COMPLAINT = 2000


@contextlib.contextmanager
def started(
    source: Readable, rootfs: IO[bytes], spare: IO[bytes]
) -> Iterator["Converter"]:
    """Start a process that can convert a source, and end it with the block.

    It gets ready while its caller finds out what to tell it.  ``rootfs`` and
    ``spare`` are two empty files that the operating system knows.
    """
    order_end, order_pipe = os.pipe()
    with contextlib.ExitStack() as stack:
        orders = stack.enter_context(open(order_pipe, "wb"))  # noqa: PTH123
        feeder = None
        file: IO[bytes] | int | None = regular_file(source)
        if file is None:
            feeder = _Feeder(source)
            file = feeder.end
        numbers = (order_end, rootfs.fileno(), spare.fileno())
        try:
            child = stack.enter_context(
                process.stream(
                    sandbox.python(
                        "from incus_testbed.image.converter import program;"
                        " program.main()",
                        *map(str, numbers),
                    ),
                    stdin=file,
                    stdout=subprocess.PIPE,
                    pass_fds=numbers,
                )
            )
        finally:
            os.close(order_end)
            if feeder:
                os.close(feeder.end)
        if feeder:
            feeder.start()
        yield Converter(child, orders, feeder)


class Converter:
    """A process that waits to be told what to do with the source it has."""

    def __init__(
        self,
        child: "subprocess.Popen[bytes]",
        orders: IO[bytes],
        feeder: "_Feeder | None",
    ) -> None:
        """Know a process, where it takes orders, and what feeds it if any."""
        assert child.stdout  # noqa: S101
        assert child.stderr  # noqa: S101
        self._child = child
        self._orders = orders
        self._feeder = feeder
        self._heard = {child.stdout.fileno(): b"", child.stderr.fileno(): b""}
        self._answers = child.stdout.fileno()
        self._poll = select.poll()
        for descriptor in self._heard:
            self._poll.register(descriptor, select.POLLIN)

    def convert(
        self, order: Order, progress: Callable[[int], None] | None = None
    ) -> Result:
        """Have the source converted.

        ``progress`` is told how many bytes of source have been read, several
        times a second, whether there are more or not.  What it raises ends
        the conversion.

        :raises errors.BadImage: the source can't become an image, or goes
            beyond the budget
        :raises errors.NoSpace: there is no room for the result
        :raises errors.TimedOut: the budget's time is over
        :raises errors.MissingProgram: xz, zstd or the like is not installed
        :raises errors.CommandFailed: the process ended without an answer
        """
        meter = Meter(order.budget)
        with contextlib.suppress(BrokenPipeError), self._orders:
            self._orders.write(order.to_json())
        read = 0
        while True:
            meter.remaining()
            if self._feeder:
                read = self._feeder.size
                self._feeder.check()
            if progress:
                progress(read)
            line = self._next()
            if line is None:
                continue
            said = self._understood(line)
            if isinstance(said, int):
                read = said
                continue
            if self._feeder:
                said = self._feeder.vouched(said)
            if progress:
                progress(said.source_size)
            return said

    def _next(self) -> bytes | None:
        """Return the next message; None if there is none for a moment."""
        line = self._line()
        if line is None:
            for descriptor, _ in self._poll.poll(_PACE * 1000):
                data = os.read(descriptor, _LONGEST)
                if data:
                    self._hear(descriptor, data)
                    continue
                self._poll.unregister(descriptor)
                if descriptor == self._answers:
                    raise self._failure()
            line = self._line()
        return line

    def _line(self) -> bytes | None:
        """Return the next message of those that have been read."""
        line, end, rest = self._heard[self._answers].partition(b"\n")
        if end:
            self._heard[self._answers] = rest
            return line
        if len(line) > _LONGEST:
            raise self._failure()
        return None

    def _hear(self, descriptor: int, data: bytes) -> None:
        self._heard[descriptor] = (self._heard[descriptor] + data)[
            : 2 * _LONGEST
        ]

    def _understood(self, line: bytes) -> int | Result:
        try:
            return answer.parse(line)
        except errors.TestbedError:
            if self._feeder:  # where the source ends early, it says why
                self._feeder.check()
            raise
        except ValueError as error:
            raise errors.BadImage(
                "The file made the converting process say what makes no sense",
                details=str(error),
                resolution="Do not use this file unless you know who made it.",
            ) from error

    def _complaint(self) -> str:
        """Return the last lines that the process said on standard error."""
        stderr = self._child.stderr
        assert stderr  # noqa: S101
        os.set_blocking(stderr.fileno(), False)
        with contextlib.suppress(BlockingIOError):
            while data := os.read(stderr.fileno(), _LONGEST):
                self._hear(stderr.fileno(), data)
        said = self._heard[stderr.fileno()][-_LONGEST_COMPLAINT:]
        text = said.decode(errors="replace")
        return "\n".join(text.strip().splitlines()[-5:])

    def _failure(self) -> errors.TestbedError:
        """Return the error for a process that ended without an answer."""
        try:
            status = self._child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._child.kill()
            status = self._child.wait()
        said = self._complaint()
        return errors.CommandFailed(
            "The process that converts the file ended without an answer, with"
            f" status {status}",
            details=said,
            resolution="If memory was short, 'dmesg' says so; else please"
            " report this, with the file.",
        )


class _Feeder(threading.Thread):
    """Hands on what is read, and counts and hashes it.

    A thread, because a source may say nothing for long: who waits for the
    answer is to see meanwhile that time is over, or the import not wanted.
    """

    def __init__(self, source: Readable) -> None:
        super().__init__(daemon=True)
        self._source = source
        self.end, self._pipe = os.pipe()
        # A roomier pipe spares changes of process by the ten thousand.
        with contextlib.suppress(OSError):
            fcntl.fcntl(self._pipe, fcntl.F_SETPIPE_SZ, CHUNK)
        self._hash = hashlib.sha256()
        self._trouble: BaseException | None = None
        self.size = 0

    def run(self) -> None:
        with open(self._pipe, "wb", buffering=0) as pipe:  # noqa: PTH123
            try:
                self._copy(pipe)
            except BrokenPipeError:  # the process has ended, or was ended
                pass
            except BaseException as error:  # noqa: BLE001 - check() raises it
                # Before the pipe is closed, which looks like the end.
                self._trouble = error

    def _copy(self, pipe: io.FileIO) -> None:
        while chunk := self._source.read(CHUNK):
            self._hash.update(chunk)
            self.size += len(chunk)
            rest = memoryview(chunk)
            while rest:
                rest = rest[pipe.write(rest) or 0 :]

    def check(self) -> None:
        """Raise what the source has raised."""
        if self._trouble:
            raise self._trouble

    def vouched(self, result: Result) -> Result:
        """Return a result with what was seen of the source here."""
        self.join()
        self.check()
        return dataclasses.replace(
            result, sha256=self._hash.hexdigest(), source_size=self.size
        )
