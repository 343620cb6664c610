# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the conversion: read standard input, answer on standard output.

    python3 -c '... program.main()' ORDER ROOTFS SPARE

This is the converting process.  The arguments are descriptors of open files:
the order, the empty file for the result, and another empty file.
"""

import contextlib
import dataclasses
import io
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import IO

from incus_testbed import errors
from incus_testbed.customise import customisation, last_file
from incus_testbed.image import architecture
from incus_testbed.image.convert import System, opened
from incus_testbed.image.converter import answer
from incus_testbed.image.converter.answer import Result
from incus_testbed.image.converter.order import Order
from incus_testbed.image.description import Description, describe
from incus_testbed.image.stream import compression, scratch
from incus_testbed.image.stream.source import CHUNK, Readable, Source
from incus_testbed.limits.budget import Budget
from incus_testbed.system.disk import DiskSystem
from incus_testbed.system.entry import Entry

#: Seconds between two messages about how much has been read.
_PACE = 0.2

#: Bytes of address space for each process, and the addition for each
#: processor: zstd and xz run a thread on each, for which glibc reserves 64 MiB
#: or more.  In practice they use a tenth of the limit.
_ADDRESSES = 2 << 30
_ADDRESSES_PER_PROCESSOR = 256 << 20
#: Bytes of tables in a result, in addition to its unpacked size.
_TABLES = 1 << 30
_OPEN_FILES = 64


def main() -> None:
    """Convert, and end; the status tells only whether an answer was given."""
    _say(answer.progress(0))  # it is waited for
    order_file, rootfs, spare = map(int, sys.argv[1:])
    with open(order_file, "rb") as text:  # noqa: PTH123 - a descriptor
        order = Order.from_json(text.read())
    _limit(order.budget)
    try:
        with scratch.telling_full():
            result = _converted(order, _opened(rootfs), _opened(spare))
        _say(answer.success(result))
    except errors.TestbedError as error:
        _say(answer.failure(error))
    # The importing process waits for the end, and Python would first take a
    # while to free what the kernel frees anyway.
    os._exit(0)


def _limit(budget: Budget) -> None:
    """Limit this process and the processes that it starts."""
    processors = os.cpu_count() or 1
    for kind, limit in (
        (
            resource.RLIMIT_AS,
            _ADDRESSES
            + processors * _ADDRESSES_PER_PROCESSOR
            + budget.decompressor_bytes,
        ),
        (resource.RLIMIT_CPU, (budget.seconds + 1) * processors),
        (resource.RLIMIT_FSIZE, budget.unpacked_bytes + _TABLES),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, most = resource.getrlimit(kind)
        if most != resource.RLIM_INFINITY:
            limit = min(limit, most)  # noqa: PLW2901
        resource.setrlimit(kind, (limit, limit))


def _converted(order: Order, rootfs: IO[bytes], spare: IO[bytes]) -> Result:
    source = Source(_source(order.size), _reporter())
    with opened(
        source,
        rootfs,
        spare,
        place=order.place,
        budget=order.budget,
        form=compression.FORMS[order.form],
    ) as convertible:
        description, entries = _planned(convertible.survey(), order)
        file, unpacked_size = convertible.write(entries, date=order.date)
    file.flush()
    return Result(
        is_source=file is source.on_disk,
        sha256=source.sha256,
        source_size=source.size,
        unpacked_size=unpacked_size,
        description=description,
    )


def _planned(system: System, order: Order) -> tuple[Description, list[Entry]]:
    """Return the description of a system for Incus, and the files to add.

    :raises errors.BadImage: the system can't run properly here
    """
    description = describe(system, order.label)
    architecture.check(
        description.architecture,
        order.label,
        order.supported,
        vm=isinstance(system, DiskSystem),
    )
    if isinstance(system, DiskSystem):
        return description, []
    customisation.check(system)
    entries = customisation.entries(system, generator=order.generator)
    if entries and entries[-1].path in last_file.PATHS:
        last = entries[-1].path
        description = dataclasses.replace(description, last_file=last)
    return description, entries


def _source(size: int) -> Readable:
    """Return the source: a file on disk, or a pipe.

    Programs such as qemu-img open a file on disk again.  A file that this user
    may not open is read like a pipe.
    """
    file = open(0, "rb", closefd=False)  # noqa: SIM115 - a descriptor
    with contextlib.suppress(OSError):
        if file.seekable():
            os.close(os.open(scratch.path(file), os.O_RDONLY))
            return file
    return _Stream(size)


class _Stream:
    """Standard input, read only forwards."""

    def __init__(self, size: int) -> None:
        self.size = size

    def read(self, size: int) -> bytes:
        return os.read(0, size)


def _opened(descriptor: int) -> IO[bytes]:
    return io.BufferedRandom(io.FileIO(descriptor, "r+b"), CHUNK)


def _reporter() -> Callable[[int], None]:
    last = 0.0

    def report(size: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last > _PACE:
            last = now
            _say(answer.progress(size))

    return report


def _say(message: bytes) -> None:
    sys.stdout.buffer.write(message)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
