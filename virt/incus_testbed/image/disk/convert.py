# SPDX-License-Identifier: GPL-3.0-or-later
"""Convert a disk image of any shape to one qcow2 file."""

import errno
import itertools
import os
import signal
from collections.abc import Iterable, Iterator
from typing import IO

from incus_testbed import errors
from incus_testbed.image.disk import qcow2
from incus_testbed.image.disk.packed import Packed
from incus_testbed.image.disk.qcow2 import Header
from incus_testbed.image.disk.reader import Reader
from incus_testbed.image.disk.shape import Shape
from incus_testbed.image.disk.writer import Writer
from incus_testbed.image.stream import scratch
from incus_testbed.image.stream.source import CHUNK, Lookahead
from incus_testbed.limits.budget import Meter
from incus_testbed.process import packages, programs

#: Seconds that qemu-img may take.
_LIMIT = 1800.0

#: Bytes of address space for qemu-img.  A real image takes 100 MiB of memory,
#: but each of up to 64 threads reserves 8 MiB: OpenStack's 1 GiB was too little
#: on a busy machine.  glibc would reserve 64 MiB more for each.
_ADDRESSES = 2 << 30
_ONE_ARENA = "MALLOC_ARENA_MAX=1"

_TOO_LARGE = os.strerror(errno.EFBIG)


def convert(
    form: Shape,
    stream: Lookahead,
    file: IO[bytes] | None,
    result: IO[bytes],
    meter: Meter,
    *,
    spare: IO[bytes],
) -> tuple[Reader, int]:
    """Convert a disk to a qcow2 image.

    Returns a reader of the image, which has its file, and the bytes of the disk
    that are in use.

    ``file`` is the file that the stream reads, or None if the stream is not a
    file or is unpacked on its way.  A ``file`` that is already a suitable
    qcow2 image is returned itself; ``result``, an empty temporary file, then
    stays empty.  ``spare`` is another empty temporary file.

    Memory use does not grow with the disk, and zeros take no room.  Free space
    is checked before writing where the need is known: for a raw disk that is a
    file or that is in a sparse archive.  The disk's size is also checked
    before writing, if it is known by then.

    :raises errors.BadImage: the disk is damaged, too large, or needs other
        files to be complete
    :raises errors.NoSpace: there is no room for the result
    """
    if form == "qcow2" and file:
        header = qcow2.header(os.pread(file.fileno(), qcow2.HEADER, 0))
        meter.announce(header.size)
        stream.drain()
        if not header.plain:
            return _rewritten(file, result, meter)
        return _checked(file, header, meter)
    if form == "packed":
        archive = Packed(stream.read, meter.budget)
        pieces, size, need = archive.pieces(), archive.size, archive.data_size
        meter.announce(size)
    else:
        pieces, size = _pieces(stream), None
        need = os.fstat(file.fileno()).st_blocks * 512 if file else None
    scratch.check_room(result, need or 0)
    first = next(pieces, (0, b""))
    pieces = itertools.chain([first], pieces)
    if not first[1].startswith(qcow2.MAGIC):
        return _written(pieces, size, result, meter)
    header = qcow2.header(first[1])
    meter.announce(header.size)
    if header.plain:
        _copy(pieces, result)
        return _checked(result, header, meter)
    _copy(pieces, spare)
    return _rewritten(spare, result, meter)


def _pieces(stream: Lookahead) -> Iterator[tuple[int, bytes]]:
    position = 0
    while data := stream.read(CHUNK):
        yield position, data
        position += len(data)


def _written(
    pieces: Iterable[tuple[int, bytes]],
    size: int | None,
    result: IO[bytes],
    meter: Meter,
) -> tuple[Reader, int]:
    """Write a raw disk as qcow2; ``size`` is its size, None if unknown."""
    writer = Writer(result)
    for offset, data in pieces:
        writer.skip_to(offset)
        writer.write(data)
    if size is not None:
        writer.skip_to(size)
    reader = Reader(result, writer.finish(), meter)
    return reader, os.fstat(result.fileno()).st_size


def _copy(pieces: Iterable[tuple[int, bytes]], target: IO[bytes]) -> None:
    for offset, data in pieces:
        target.seek(offset)
        target.write(data)
    target.flush()


def _checked(
    file: IO[bytes], header: Header, meter: Meter
) -> tuple[Reader, int]:
    reader = Reader(file, header, meter)
    used = reader.check()
    meter.check(used)
    return reader, used


def _rewritten(
    file: IO[bytes], result: IO[bytes], meter: Meter
) -> tuple[Reader, int]:
    """Convert a qcow2 image to a plain one with QEMU."""
    scratch.check_room(result, os.fstat(file.fileno()).st_blocks * 512)
    most = meter.most()
    argv = [
        # Without a sandbox, the kernel kills it when this process ends.
        *("setpriv", "--pdeathsig=KILL"),
        *("env", _ONE_ARENA),
        *("prlimit", f"--fsize={most}", f"--as={_ADDRESSES}", "--core=0"),
        *("qemu-img", "convert", "-f", "qcow2", "-O", "qcow2"),
        *(scratch.path(file), scratch.path(result)),
    ]
    done = programs.run(argv, timeout=min(_LIMIT, meter.remaining()))
    if done.status and scratch.tells_full(done.stderr):
        raise scratch.full(done.stderr)
    if done.status == -signal.SIGXFSZ or _TOO_LARGE in done.stderr:
        # One byte above the limit, so that this raises.
        meter.check(most + 1)
    if "failed to execute" in done.stderr:
        raise packages.missing("qemu-img")
    if done.status:
        raise errors.BadImage(
            "The qcow2 image can't be read",
            details=done.stderr,
            resolution="Check it: qemu-img check FILE",
        )
    header = qcow2.header(os.pread(result.fileno(), qcow2.HEADER, 0))
    used = os.fstat(result.fileno()).st_blocks * 512
    return Reader(result, header, meter), used
