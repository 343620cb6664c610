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
from typing import IO, Protocol

from incus_testbed import errors
from incus_testbed.customise import customisation
from incus_testbed.image.disk import convert as disks
from incus_testbed.image.disk.convert import Disk
from incus_testbed.image.disk.survey import survey
from incus_testbed.image.fits import Place
from incus_testbed.image.stream import compression, magic
from incus_testbed.image.stream.compression import Compressor
from incus_testbed.image.stream.source import (
    Lookahead,
    Readable,
    Source,
    regular_file,
)
from incus_testbed.image.tar.archive import Archive
from incus_testbed.image.tar.escape import Confinement
from incus_testbed.limits.budget import Budget, Meter
from incus_testbed.system.disk import DiskSystem
from incus_testbed.system.entry import Entry
from incus_testbed.system.facts import Facts, Survey

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
class System:
    """The system in a source.

    ``facts`` is None for a disk with an unknown file system, ``disk`` is
    None for a tarball.
    """

    facts: Facts | None
    disk: DiskSystem | None = None


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """The result of a conversion.

    ``rootfs`` is the file for Incus: the file that was written, or the source
    itself if it is a disk image that needed no conversion.  ``sha256``
    (hexadecimal) and ``source_size`` describe the source.
    ``unpacked_size`` is the number of bytes that the result takes in a storage
    pool; zeros in a disk take none.
    """

    rootfs: IO[bytes]
    sha256: str
    source_size: int
    unpacked_size: int


class Convertible(Protocol):
    """An open source: first call ``survey``, then ``write``."""

    def survey(self) -> System:
        """Read the source to its end; return the system in it.

        :raises errors.BadImage: it is damaged, exceeds the budget, or can't
            become an image
        """

    def write(self, entries: Iterable[Entry], *, date: int) -> Conversion:
        """Append entries to a tarball, and finish the result.

        They are owned by root and have ``date`` as their mtime.  A disk gets
        no entries.
        """


@contextlib.contextmanager
def opened(
    source: Readable,
    rootfs: IO[bytes],
    spare: IO[bytes],
    *,
    place: Place | None = None,
    progress: Callable[[int], None] | None = None,
    budget: Budget | None = None,
) -> Iterator[Convertible]:
    """Open a source to convert it to the root of a container or a VM.

    ``source`` is a tarball or a disk image, compressed or not.  It is read
    once, from its current position to its end, and can be a pipe.  Its content
    is kept bit for bit: a tarball becomes a .tar.zst, a disk becomes qcow2.
    ``rootfs`` and ``spare``, which few disks need, are empty files that have
    a descriptor; after an error their content is undefined.  ``place`` checks
    that there is room before anything is written.  ``progress`` is called with
    the number of source bytes read.

    Memory use is bounded by ``budget``, and no child process is left behind.

    :raises errors.BadImage: source is neither, or exceeds the budget
    :raises errors.NoSpace: there is no room for rootfs
    :raises errors.TimedOut: the budget's time is over
    :raises errors.MissingProgram: xz, zstd or the like is not installed
    """
    place = place or Place()
    file = regular_file(source)
    given = Source(source, progress)
    meter = Meter(budget, packed=lambda: max(given.size, given.total))
    with _sense(given), _unpacked(given, meter) as (stream, is_packed):
        form = disks.shape(stream.head(disks.length(meter.budget)))
        if form is None:
            meter.require(place.check_tree)
            with compression.compressor(rootfs) as output:
                yield _Tarball(given, stream, rootfs, output, meter)
        else:
            meter.require(place.check_disk)
            disk = disks.convert(
                form,
                stream,
                None if is_packed else file,
                rootfs,
                meter,
                spare=spare,
            )
            yield _Image(given, disk, meter.budget)


class _Tarball:
    """A tarball, which is copied while it is surveyed."""

    def __init__(
        self,
        source: Source,
        stream: Lookahead,
        rootfs: IO[bytes],
        output: Compressor,
        meter: Meter,
    ) -> None:
        self._source = source
        self._rootfs = rootfs
        self._output = output
        self._budget = meter.budget
        self._archive = Archive(stream.read, output.write, meter)
        self._confinement = Confinement(meter.budget)

    def survey(self) -> System:
        facts = _surveyed(self._archive, self._confinement, self._budget)
        return System(facts=facts)

    def write(self, entries: Iterable[Entry], *, date: int) -> Conversion:
        for entry in entries:
            self._confinement.check(entry)
            self._archive.append(entry, date=date)
        self._archive.end()
        self._output.finish()
        return Conversion(
            rootfs=self._rootfs,
            sha256=self._source.sha256,
            source_size=self._source.size,
            unpacked_size=self._output.size,
        )


class _Image:
    """A disk image, which is written before it can be surveyed."""

    def __init__(self, source: Source, disk: Disk, budget: Budget) -> None:
        self._source = source
        self._disk = disk
        self._budget = budget

    def survey(self) -> System:
        system = survey(self._disk.reader, self._budget)
        return System(facts=system.facts, disk=system)

    def write(self, entries: Iterable[Entry], *, date: int) -> Conversion:
        del entries, date
        return Conversion(
            rootfs=self._disk.file,
            sha256=self._source.sha256,
            source_size=self._source.size,
            unpacked_size=self._disk.used,
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
    head = source.head(magic.LENGTH)
    argv = compression.decompressor(head, meter.budget)
    if argv is None or magic.is_tar(head):
        yield Lookahead(meter.counted(source.read)), False
        return
    with compression.decompressed(source, argv, meter) as read:
        yield Lookahead(meter.counted(read)), True


def _surveyed(
    archive: Archive, confinement: Confinement, budget: Budget
) -> Facts:
    """Copy a whole archive; return the facts about its content."""
    survey = Survey(budget, customisation.DIRECTORIES)
    contents, disk = 0, ""
    for entry in archive.entries(survey.wants_content, survey.check_size):
        confinement.check(entry)
        survey.visit(entry)
        if entry.kind != "directory":
            contents += 1
            disk = entry.path if _is_disk(entry) else disk
    if disk and contents == 1:
        raise magic.unusable_disk(f"It holds nothing but '{disk}'.")
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
