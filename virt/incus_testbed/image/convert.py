# SPDX-License-Identifier: GPL-3.0-or-later
"""Convert a tarball or a disk to the root of an Incus image."""

import contextlib
import logging
import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, TYPE_CHECKING, Protocol, TypeAlias

from incus_testbed import errors
from incus_testbed.customise import customisation
from incus_testbed.image.disk import shape as shapes
from incus_testbed.image.fits import Place
from incus_testbed.image.stream import compression, magic
from incus_testbed.image.stream.compression import Compressor
from incus_testbed.image.stream.source import Lookahead, Source
from incus_testbed.image.tar.archive import Archive
from incus_testbed.image.tar.escape import Confinement
from incus_testbed.image.tar.replay import NONSENSE
from incus_testbed.limits.budget import Budget, Meter
from incus_testbed.system.disk import DiskSystem
from incus_testbed.system.entry import Entry
from incus_testbed.system.facts import Facts
from incus_testbed.system.survey import Survey

if TYPE_CHECKING:
    from incus_testbed.image.disk.reader import Reader

log = logging.getLogger(__name__)

#: Exceptions that a malformed file can cause in any Python code that reads it.
_NONSENSE = (
    *NONSENSE,
    AssertionError,
    AttributeError,
    MemoryError,
    struct.error,
    zlib.error,
)

_DISK_SUFFIXES = (".img", ".raw", ".qcow2", ".vmdk")


#: The system in a tarball, or the one on a disk.
System: TypeAlias = Facts | DiskSystem


class Convertible(Protocol):
    """An open source: first call ``survey``, then ``write``."""

    def survey(self) -> System:
        """Read the source to its end; return the system in it.

        :raises errors.BadImage: it is damaged, exceeds the budget, or can't
            become an image
        """

    def write(
        self, entries: Iterable[Entry], *, date: int
    ) -> tuple[IO[bytes], int]:
        """Append entries to a tarball, and finish the result.

        They are owned by root and have ``date`` as their mtime.  A disk gets
        no entries.

        Returns the file for Incus, and the bytes that it takes in a storage
        pool, where a disk's zeros take none.  The file is the one that was
        written, or a disk image that needed no conversion itself.
        """


@contextlib.contextmanager
def opened(
    source: Source,
    rootfs: IO[bytes],
    spare: IO[bytes],
    *,
    place: Place | None = None,
    budget: Budget | None = None,
    form: compression.Form = compression.ZSTD,
) -> Iterator[Convertible]:
    """Open a source to convert it to the root of a container or a VM.

    ``source`` is a tarball or a disk image, compressed or not.  It is read
    once, from its current position to its end, and can be a pipe.  Its content
    is kept bit for bit: a tarball is compressed to ``form``, and a disk becomes
    qcow2.  ``rootfs`` and ``spare``, which few disks need, are empty files that
    have a descriptor; after an error their content is undefined.  ``place``
    checks that there is room before anything is written.

    Memory use is bounded by ``budget``, and no child process is left behind.

    :raises errors.BadImage: source is neither, or exceeds the budget
    :raises errors.NoSpace: there is no room for rootfs
    :raises errors.TimedOut: the budget's time is over
    :raises errors.MissingProgram: xz, zstd or the like is not installed
    """
    place = place or Place()
    meter = Meter(budget, packed=lambda: max(source.size, source.total))
    with _sense(source), _unpacked(source, meter) as (stream, is_packed):
        shape = shapes.shape(stream.head(shapes.length(meter.budget)))
        if shape is None:
            meter.require(place.check_tree)
            with compression.compressor(rootfs, form) as output:
                yield _Tarball(stream, rootfs, output, meter)
        else:
            # Here, so that a tarball's conversion starts sooner.
            from incus_testbed.image.disk import (  # noqa: PLC0415
                convert as disks,
            )

            meter.require(place.check_disk)
            reader, used = disks.convert(
                shape,
                stream,
                None if is_packed else source.on_disk,
                rootfs,
                meter,
                spare=spare,
            )
            yield _Image(reader, used, meter.budget)


class _Tarball:
    """A tarball, which is copied while it is surveyed."""

    def __init__(
        self,
        stream: Lookahead,
        rootfs: IO[bytes],
        output: Compressor,
        meter: Meter,
    ) -> None:
        self._rootfs = rootfs
        self._output = output
        self._budget = meter.budget
        self._archive = Archive(stream.read, output.write, meter)
        self._confinement = Confinement(meter.budget)

    def survey(self) -> Facts:
        survey = Survey(self._budget, customisation.DIRECTORIES)
        contents, disk = 0, ""
        for entry in self._archive.entries(
            survey.wants_content, survey.check_size
        ):
            self._confinement.check(entry)
            survey.visit(entry)
            if entry.kind != "directory":
                contents += 1
            if entry.kind == "file" and "/" not in entry.path:
                disk = entry.path
        if contents == 1 and disk.endswith(_DISK_SUFFIXES):
            raise magic.unusable_disk(f"It holds nothing but '{disk}'.")
        self._confinement.finish()
        return survey.facts()

    def write(
        self, entries: Iterable[Entry], *, date: int
    ) -> tuple[IO[bytes], int]:
        for entry in entries:
            self._confinement.check(entry)
            self._archive.append(entry, date=date)
        self._archive.end()
        self._output.finish()
        return self._rootfs, self._output.size


class _Image:
    """A disk image, which is written before it can be surveyed."""

    def __init__(self, reader: "Reader", used: int, budget: Budget) -> None:
        self._reader = reader
        self._used = used
        self._budget = budget

    def survey(self) -> DiskSystem:
        from incus_testbed.image.disk.survey import survey  # noqa: PLC0415

        return survey(self._reader, self._budget)

    def write(
        self, entries: Iterable[Entry], *, date: int
    ) -> tuple[IO[bytes], int]:
        del entries, date
        return self._reader.file, self._used


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
