# SPDX-License-Identifier: GPL-3.0-or-later
"""From a disk image of any shape to one qcow2 file."""

import itertools
import os
from collections.abc import Iterable, Iterator
from typing import IO

from incus_testbed import errors, process
from incus_testbed.image import scratch
from incus_testbed.image.disk import qcow2
from incus_testbed.image.disk.packed import Packed
from incus_testbed.image.disk.qcow2 import Header
from incus_testbed.image.disk.reader import Reader
from incus_testbed.image.disk.shape import Shape
from incus_testbed.image.disk.writer import Writer
from incus_testbed.image.source import CHUNK, Lookahead

#: Seconds that qemu-img may take.
_LIMIT = 1800.0


def convert(
    shape: Shape, stream: Lookahead, file: IO[bytes] | None, result: IO[bytes]
) -> tuple[IO[bytes], Reader]:
    """Make a disk a qcow2 image; return its file, and a reader of the disk.

    ``file`` is what the stream reads, if it is a file and nothing unpacks it:
    a qcow2 image that will do as it is is returned itself, and ``result``, an
    empty temporary file, stays so.

    Memory does not grow with the disk, and what is zero takes no room.  That
    there is room is made sure of before where the need is known: for a raw
    disk that is a file, or that a sparse archive holds.

    :raises errors.BadImage: it is damaged, or not whole without other files
    :raises errors.NoSpace: there is no room for the result
    """
    if shape == "qcow2" and file:
        stream.drain()
        header = qcow2.header(os.pread(file.fileno(), qcow2.HEADER, 0))
        if not header.plain:
            return result, _rewritten(file, result)
        return file, _checked(file, header)
    if shape == "packed":
        packed = Packed(stream.read)
        pieces, size, need = packed.pieces(), packed.size, packed.data_size
    else:
        pieces, size = _pieces(stream), None
        need = os.fstat(file.fileno()).st_blocks * 512 if file else None
    scratch.check_room(result, need or 0)
    first = next(pieces, (0, b""))
    pieces = itertools.chain([first], pieces)
    if not first[1].startswith(qcow2.MAGIC):
        return result, _written(pieces, size, result)
    header = qcow2.header(first[1])
    if header.plain:
        _copy(pieces, result)
        return result, _checked(result, header)
    with scratch.file() as copy:
        _copy(pieces, copy)
        return result, _rewritten(copy, result)


def _pieces(stream: Lookahead) -> Iterator[tuple[int, bytes]]:
    position = 0
    while data := stream.read(CHUNK):
        yield position, data
        position += len(data)


def _written(
    pieces: Iterable[tuple[int, bytes]], size: int | None, result: IO[bytes]
) -> Reader:
    """Write a raw disk, of ``size`` where that is known, as qcow2."""
    writer = Writer(result)
    for offset, data in pieces:
        writer.skip_to(offset)
        writer.write(data)
    if size is not None:
        writer.skip_to(size)
    return Reader(result, writer.finish())


def _copy(pieces: Iterable[tuple[int, bytes]], target: IO[bytes]) -> None:
    for offset, data in pieces:
        target.seek(offset)
        target.write(data)
    target.flush()


def _checked(file: IO[bytes], header: Header) -> Reader:
    reader = Reader(file, header)
    reader.check()
    return reader


def _rewritten(file: IO[bytes], result: IO[bytes]) -> Reader:
    """Have QEMU make a qcow2 image plain."""
    argv = [
        *("qemu-img", "convert", "-f", "qcow2", "-O", "qcow2"),
        *(scratch.path(file), scratch.path(result)),
    ]
    done = process.run(argv, timeout=_LIMIT)
    if done.status and scratch.tells_full(done.stderr):
        raise scratch.full(done.stderr)
    if done.status:
        raise errors.BadImage(
            "The qcow2 image can't be read",
            details=done.stderr,
            resolution="Check it: qemu-img check FILE",
        )
    header = qcow2.header(os.pread(result.fileno(), qcow2.HEADER, 0))
    return Reader(result, header)
