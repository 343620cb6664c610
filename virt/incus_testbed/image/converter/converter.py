# SPDX-License-Identifier: GPL-3.0-or-later
"""Start the converting process, feed it, and wait for its answer."""

import contextlib
import dataclasses
import os
import select
import subprocess
import threading
from collections.abc import Callable, Iterator
from typing import IO

from incus_testbed import errors
from incus_testbed.image.converter import answer
from incus_testbed.image.converter.answer import Result
from incus_testbed.image.converter.order import Order
from incus_testbed.image.stream import pipe, scratch
from incus_testbed.image.stream.source import CHUNK, Source
from incus_testbed.limits.budget import Meter
from incus_testbed.process import programs, sandbox

#: Seconds between two checks whether the import is still wanted.
_PACE = 0.2

#: Seconds for a process to end after its answer, or the end of its output.
_GRACE = 5.0

#: Bytes of one message, and of the part of standard error that is shown.
_LONGEST = 1 << 18
_LONGEST_COMPLAINT = 2000


@contextlib.contextmanager
def started(
    source: Source, rootfs: IO[bytes], spare: IO[bytes]
) -> Iterator["Converter"]:
    """Start a process that can convert a source; end it with the block.

    It starts up while the caller prepares its order.  ``rootfs`` and ``spare``
    are two empty files that have descriptors.
    """
    order_end, order_pipe = os.pipe()
    with contextlib.ExitStack() as stack:
        orders = stack.enter_context(open(order_pipe, "wb"))  # noqa: PTH123
        complaints = stack.enter_context(scratch.file())
        feeder = None
        file: IO[bytes] | int | None = source.on_disk
        if file is None:
            feeder = _Feeder(source)
            file = feeder.end
        numbers = (order_end, rootfs.fileno(), spare.fileno())
        try:
            child = stack.enter_context(
                programs.stream(
                    sandbox.python(
                        "from incus_testbed.image.converter import program;"
                        " program.main()",
                        *map(str, numbers),
                    ),
                    stdin=file,
                    stdout=subprocess.PIPE,
                    stderr=complaints,
                    pass_fds=numbers,
                )
            )
        finally:
            os.close(order_end)
            if feeder:
                os.close(feeder.end)
        if feeder:
            feeder.start()
        converter = Converter(child, orders, complaints, feeder)
        stack.callback(converter.await_start)
        yield converter


class Converter:
    """A process that has a source, and waits for its order."""

    def __init__(
        self,
        child: "subprocess.Popen[bytes]",
        orders: IO[bytes],
        complaints: IO[bytes],
        feeder: "_Feeder | None",
    ) -> None:
        """Take a process and its feeder, if any.

        ``orders`` is the pipe for its order, ``complaints`` the file of its
        standard error.
        """
        assert child.stdout  # noqa: S101
        self._child = child
        self._orders = orders
        self._complaints = complaints.fileno()
        self._feeder = feeder
        self._answers = child.stdout.fileno()
        self._heard = b""
        self._has_started = False
        self._poll = select.poll()
        self._poll.register(self._answers, select.POLLIN)

    def convert(
        self, order: Order, progress: Callable[[int], None] | None = None
    ) -> Result:
        """Convert the source.

        ``progress`` is called several times a second with the number of source
        bytes read, even if there are no new ones.  An exception that it raises
        ends the conversion.

        :raises errors.BadImage: the source can't become an image, or exceeds
            the budget
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
                read = self._feeder.source.size
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
            self._await_end()
            return said

    def _next(self) -> bytes | None:
        """Return the next message; None if none arrives within _PACE."""
        if b"\n" not in self._heard and self._poll.poll(_PACE * 1000):
            self._has_started = True
            data = os.read(self._answers, _LONGEST)
            if not data:
                raise self._failure()
            self._heard += data
        line, end, rest = self._heard.partition(b"\n")
        if end:
            self._heard = rest
            return line
        if len(line) > _LONGEST:
            raise self._failure()
        return None

    def await_start(self) -> None:
        """Wait until the process has said something, or ended.

        A bubblewrap that is killed before would leave its child behind, which
        waits for it for ever.
        """
        if not self._has_started:
            self._poll.poll(_GRACE * 1000)

    def _await_end(self) -> None:
        """Wait until nothing is left that could still change the result.

        In a sandbox, the process that answers ends last.  If it were killed
        from outside, another one could run a moment longer.
        """
        # With a limit, Popen.wait() looks ever more seldom, and would be up to
        # 16 ms late.  The output ends with the process.
        end = select.poll()
        end.register(self._answers, 0)  # not what is still said
        has_ended = end.poll(_GRACE * 1000)
        try:
            self._child.wait(_GRACE if has_ended else 0)
        except subprocess.TimeoutExpired:
            raise errors.BadImage(
                "The converting process has not ended after its answer",
                resolution="Do not use this file unless you know who made it.",
            ) from None

    def _understood(self, line: bytes) -> int | Result:
        try:
            return answer.parse(line)
        except errors.TestbedError:
            if self._feeder:  # if the source failed, that is the reason
                self._feeder.check()
            raise
        except ValueError as error:
            raise errors.BadImage(
                "The file made the converting process give an invalid answer",
                details=str(error),
                resolution="Do not use this file unless you know who made it.",
            ) from error

    def _failure(self) -> errors.TestbedError:
        """Return the error for a process that ended without an answer."""
        try:
            status = self._child.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._child.kill()
            status = self._child.wait()
        size = os.fstat(self._complaints).st_size
        start = max(0, size - _LONGEST_COMPLAINT)
        said = os.pread(self._complaints, _LONGEST_COMPLAINT, start)
        lines = said.decode(errors="replace").strip().splitlines()
        return errors.CommandFailed(
            "The process that converts the file gave no answer, and"
            f" {programs.ending(status)}",
            details="\n".join(lines[-5:]),
            resolution="Look for 'out of memory' in the output of 'dmesg'. If"
            " it is not there, please report this, with the file.",
        )


class _Feeder(threading.Thread):
    """Copies the source to the process, and counts and hashes the bytes.

    This is a thread because a read from the source may block for long.
    Meanwhile the main thread must notice that the time is over, or that the
    import is not wanted any more.
    """

    def __init__(self, source: Source) -> None:
        super().__init__(daemon=True)
        self.source = source
        self.end, self._pipe = os.pipe()
        pipe.widen(self._pipe)
        self._trouble: BaseException | None = None

    def run(self) -> None:
        with open(self._pipe, "wb", buffering=0) as target:  # noqa: PTH123
            try:
                while rest := memoryview(self.source.read(CHUNK)):
                    while rest:
                        rest = rest[target.write(rest) or 0 :]
            except BrokenPipeError:  # the process has ended, or was ended
                pass
            except BaseException as error:  # noqa: BLE001 - check() raises it
                # Set it before the pipe is closed: that looks like the end.
                self._trouble = error

    def check(self) -> None:
        """Raise the source's exception, if there was one."""
        if self._trouble:
            raise self._trouble

    def vouched(self, result: Result) -> Result:
        """Return a result with the checksum and size that were seen here."""
        self.join()
        self.check()
        return dataclasses.replace(
            result, sha256=self.source.sha256, source_size=self.source.size
        )
