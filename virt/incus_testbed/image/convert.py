# SPDX-License-Identifier: GPL-3.0-or-later
"""From a tarball or disk to the root of an Incus image."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from incus_testbed.image import compression, signature
from incus_testbed.image.archive import Archive
from incus_testbed.image.confinement import Confinement
from incus_testbed.image.disk import shape
from incus_testbed.image.disk.convert import convert as convert_disk
from incus_testbed.image.disk.machine import Machine, survey
from incus_testbed.image.entry import Entry
from incus_testbed.image.facts import Facts, Survey
from incus_testbed.image.source import Lookahead, Readable, Source, regular_file

_DISK_SUFFIXES = {".img", ".raw", ".qcow2", ".vmdk"}


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What came of a conversion.

    ``rootfs`` is what Incus is given: the file that was to be written, or a
    disk image that needed no conversion.  ``facts`` are None for a disk whose
    file system is not known here, ``machine`` is None for a tarball.
    ``sha256`` (hexadecimal) and ``source_size`` are of the bytes that were
    given, ``rootfs_size`` is what the result unpacks to.
    """

    rootfs: IO[bytes]
    facts: Facts | None
    machine: Machine | None = None
    sha256: str
    source_size: int
    rootfs_size: int


def convert(
    source: Readable,
    rootfs: IO[bytes],
    *,
    additions: Callable[[Facts], Iterable[Entry]],
    admit: Callable[[Machine], None] = lambda _: None,
    date: int,
    progress: Callable[[int], None] | None = None,
) -> Conversion:
    """Make what is in source the root of a container or virtual machine.

    ``source`` is a tarball or a disk image, packed or not, read once from
    where it stands to its end; a pipe will do.  What it holds arrives bit for
    bit.  ``rootfs`` is an empty file that the operating system knows; after
    an error its content is of no use.  ``progress`` is told how many bytes of
    source have been read.

    A tarball becomes a .tar.zst with the additions behind, which belong to
    root and carry ``date``.  A disk becomes qcow2; ``admit`` raises if it
    won't do.

    Memory does not grow with the source, and no child process is left.

    :raises errors.BadImage: source can be neither
    :raises errors.NoSpace: there is no room for rootfs
    :raises errors.MissingProgram: xz, zstd or the like is not installed
    """
    file = regular_file(source)
    given = Source(source, progress)
    facts: Facts | None
    machine = None
    with _unpacked(given) as stream:
        form = shape.shape(stream.head(shape.LENGTH))
        if form is None:
            facts, size = _container(stream, rootfs, additions, date)
        else:
            rootfs, disk = convert_disk(
                form, stream, file if stream is given else None, rootfs
            )
            machine, size = survey(disk), disk.size
            facts = machine.facts
            admit(machine)
    return Conversion(
        rootfs=rootfs,
        facts=facts,
        machine=machine,
        sha256=given.sha256,
        source_size=given.size,
        rootfs_size=size,
    )


@contextlib.contextmanager
def _unpacked(source: Source) -> Iterator[Lookahead]:
    """Yield what is in a file that may be packed."""
    head = source.head(signature.LENGTH)
    argv = compression.decompressor(head)
    if argv is None or signature.is_tar(head):
        yield source
        return
    with compression.decompressed(source, argv) as read:
        yield Lookahead(read)


def _container(
    stream: Lookahead,
    rootfs: IO[bytes],
    additions: Callable[[Facts], Iterable[Entry]],
    date: int,
) -> tuple[Facts, int]:
    """Write a tarball with additions; return its facts and full size."""
    with compression.compressor(rootfs) as output:
        archive = Archive(stream.read, output.write)
        confinement = Confinement()
        facts = _surveyed(archive, confinement)
        for entry in additions(facts):
            confinement.check(entry)
            archive.append(entry, date=date)
        archive.end()
        output.finish()
        return facts, output.size


def _surveyed(archive: Archive, confinement: Confinement) -> Facts:
    """Pass a whole archive on; return what it turned out to hold."""
    survey = Survey()
    contents, disk = 0, ""
    for entry in archive.entries(survey.wants_content):
        confinement.check(entry)
        survey.visit(entry)
        if entry.kind != "directory":
            contents += 1
            disk = entry.path if _is_disk(entry) else disk
    if disk and contents == 1:
        raise signature.unusable_disk(f"All it holds is '{disk}'.")
    return survey.facts()


def _is_disk(entry: Entry) -> bool:
    """Return whether it looks like what Debusine's system images hold."""
    path = PurePosixPath(entry.path)
    return (
        entry.kind == "file"
        and path.parent == PurePosixPath()
        and path.suffix in _DISK_SUFFIXES
    )
