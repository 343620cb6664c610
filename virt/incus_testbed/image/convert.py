# SPDX-License-Identifier: GPL-3.0-or-later
"""Convert a tarball or a disk to the root of an Incus image."""

import contextlib
import io
import logging
import struct
import tarfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from incus_testbed import errors
from incus_testbed.image import compression, scratch, signature
from incus_testbed.image.archive import Archive
from incus_testbed.image.budget import Budget, Meter
from incus_testbed.image.confinement import Confinement
from incus_testbed.image.disk import shape
from incus_testbed.image.disk.convert import convert as convert_disk
from incus_testbed.image.disk.machine import survey
from incus_testbed.image.entry import Entry
from incus_testbed.image.facts import Facts, Survey
from incus_testbed.image.machine import Machine
from incus_testbed.image.source import Lookahead, Readable, Source, regular_file

log = logging.getLogger(__name__)

#: Exceptions that a malformed file can cause in any Python code that reads it.
_NONSENSE = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    io.UnsupportedOperation,
    struct.error,
    tarfile.TarError,
    zlib.error,
)

_DISK_SUFFIXES = {".img", ".raw", ".qcow2", ".vmdk"}


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """The result of a conversion.

    ``rootfs`` is the file for Incus: the file that was written, or the source
    itself if it is a disk image that needed no conversion.  ``facts`` is None
    for a disk with an unknown file system, ``machine`` is None for a tarball.
    ``sha256`` (hexadecimal) and ``source_size`` describe the source,
    ``rootfs_size`` is the unpacked size of the result.  ``used_size`` is the
    number of bytes that it takes in a storage pool; zeros in a disk take none.
    """

    rootfs: IO[bytes]
    facts: Facts | None
    machine: Machine | None = None
    sha256: str
    source_size: int
    rootfs_size: int
    used_size: int


def convert(
    source: Readable,
    rootfs: IO[bytes],
    *,
    additions: Callable[[Facts], Iterable[Entry]],
    admit: Callable[[Machine], None] = lambda _: None,
    fits_pool: Callable[[int], None] = lambda _: None,
    fits_machine: Callable[[int], None] = lambda _: None,
    date: int,
    progress: Callable[[int], None] | None = None,
    budget: Budget | None = None,
    spare: Callable[
        [], contextlib.AbstractContextManager[IO[bytes]]
    ] = scratch.file,
) -> Conversion:
    """Convert a source to the root of a container or virtual machine.

    ``source`` is a tarball or a disk image, compressed or not.  It is read
    once, from its current position to its end, and can be a pipe.  Its content
    is kept bit for bit.  ``rootfs`` is an empty file that has a descriptor;
    after an error its content is undefined.  ``progress`` is called with the
    number of source bytes read.

    A tarball becomes a .tar.zst.  The additions are appended to it; they are
    owned by root and have ``date`` as their mtime.  A disk becomes qcow2;
    ``admit`` raises if it can't be used.  ``fits_pool`` and ``fits_machine``
    are called with a size in bytes before it is written; they raise if there
    is no room for a tarball, or for a disk, of that size.

    Memory use is bounded by ``budget``, and no child process is left behind.
    ``spare`` gives a second empty file, which few disks need.

    :raises errors.BadImage: source is neither, or exceeds the budget
    :raises errors.NoSpace: there is no room for rootfs
    :raises errors.TimedOut: the budget's time is over
    :raises errors.MissingProgram: xz, zstd or the like is not installed
    """
    file = regular_file(source)
    given = Source(source, progress)
    meter = Meter(budget, packed=lambda: max(given.size, given.total))
    facts: Facts | None
    machine = None
    with _sense(given), _unpacked(given, meter) as (stream, is_packed):
        form = shape.shape(stream.head(shape.length(meter.budget)))
        if form is None:
            meter.require(fits_pool)
            facts, size = _container(stream, rootfs, additions, date, meter)
            used = size
        else:
            meter.require(fits_machine)
            disk = convert_disk(
                form,
                stream,
                None if is_packed else file,
                rootfs,
                meter,
                spare=spare,
            )
            rootfs, size, used = disk.file, disk.reader.size, disk.used
            machine = survey(disk.reader, meter)
            facts = machine.facts
            admit(machine)
    return Conversion(
        rootfs=rootfs,
        facts=facts,
        machine=machine,
        sha256=given.sha256,
        source_size=given.size,
        rootfs_size=size,
        used_size=used,
    )


@contextlib.contextmanager
def _sense(source: Source) -> Iterator[None]:
    """Report any exception that a malformed file causes as a bad image.

    Exceptions of the source itself are passed on to the caller.

    The parsers check for every malformation that we know; this is for the
    others.
    """
    try:
        yield
    except _NONSENSE as problem:
        if problem is source.trouble:
            raise
        log.debug("the file is malformed", exc_info=True)
        raise errors.BadImage(
            "The file makes no sense",
            details=f"{type(problem).__name__}: {problem}"[:500],
            resolution="Download it again, or build it again.",
        ) from problem


@contextlib.contextmanager
def _unpacked(source: Source, meter: Meter) -> Iterator[tuple[Lookahead, bool]]:
    """Yield the unpacked content of a file, and whether it was packed."""
    head = source.head(signature.LENGTH)
    argv = compression.decompressor(head, meter.budget)
    if argv is None or signature.is_tar(head):
        yield Lookahead(meter.counted(source.read)), False
        return
    with compression.decompressed(source, argv, meter) as read:
        yield Lookahead(meter.counted(read)), True


def _container(
    stream: Lookahead,
    rootfs: IO[bytes],
    additions: Callable[[Facts], Iterable[Entry]],
    date: int,
    meter: Meter,
) -> tuple[Facts, int]:
    """Write a tarball with additions; return its facts and full size."""
    with compression.compressor(rootfs) as output:
        archive = Archive(stream.read, output.write, meter)
        confinement = Confinement(meter.budget)
        facts = _surveyed(archive, confinement, meter.budget)
        for entry in additions(facts):
            confinement.check(entry)
            archive.append(entry, date=date)
        archive.end()
        output.finish()
        return facts, output.size


def _surveyed(
    archive: Archive, confinement: Confinement, budget: Budget
) -> Facts:
    """Copy a whole archive; return the facts about its content."""
    survey = Survey(budget)
    contents, disk = 0, ""
    for entry in archive.entries(survey.wants_content, survey.check_size):
        confinement.check(entry)
        survey.visit(entry)
        if entry.kind != "directory":
            contents += 1
            disk = entry.path if _is_disk(entry) else disk
    if disk and contents == 1:
        raise signature.unusable_disk(f"It holds nothing but '{disk}'.")
    confinement.finish()
    return survey.facts()


def _is_disk(entry: Entry) -> bool:
    """Return whether it looks like the disk in a Debusine system image."""
    path = PurePosixPath(entry.path)
    return (
        entry.kind == "file"
        and path.parent == PurePosixPath()
        and path.suffix in _DISK_SUFFIXES
    )
