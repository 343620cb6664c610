# SPDX-License-Identifier: GPL-3.0-or-later
"""From a system tarball to the root file system of an Incus image."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import IO

from incus_testbed.image import compression, signature
from incus_testbed.image.archive import Archive
from incus_testbed.image.confinement import Confinement
from incus_testbed.image.entry import Entry
from incus_testbed.image.facts import Facts, Survey
from incus_testbed.image.source import Readable, Source

_DISK_SUFFIXES = {".img", ".raw", ".qcow2", ".vmdk"}


@dataclass(frozen=True, kw_only=True)
class Conversion:
    """What came of a conversion.

    ``sha256`` (hexadecimal) and ``source_size`` are of the bytes that were
    given, ``rootfs_size`` is what the result unpacks to.
    """

    facts: Facts
    sha256: str
    source_size: int
    rootfs_size: int


def convert(
    source: Readable,
    rootfs: IO[bytes],
    *,
    additions: Callable[[Facts], Iterable[Entry]],
    date: int,
    progress: Callable[[int], None] | None = None,
) -> Conversion:
    """Write to rootfs what is in source and then the additions, as .tar.zst.

    ``source`` is a tarball, packed or not, read once from where it stands to
    its end; a pipe will do.  What it holds arrives bit for bit.  ``rootfs``
    is a file that the operating system knows; after an error its content is
    of no use.  The additions belong to root and carry ``date``.  ``progress``
    is told how many bytes of source have been read.

    Memory does not grow with the source, and no child process is left.

    :raises errors.BadImage: source cannot become a container
    :raises errors.NoSpace: there is no room for rootfs
    :raises errors.MissingProgram: xz, zstd or the like is not installed
    """
    given = Source(source, progress)
    with (
        compression.compressor(rootfs) as output,
        _unpacked(given) as read,
    ):
        archive = Archive(read, output.write)
        confinement = Confinement()
        facts = _surveyed(archive, confinement)
        for entry in additions(facts):
            confinement.check(entry)
            archive.append(entry, date=date)
        archive.end()
        output.finish()
    return Conversion(
        facts=facts,
        sha256=given.sha256,
        source_size=given.size,
        rootfs_size=output.size,
    )


@contextlib.contextmanager
def _unpacked(source: Source) -> Iterator[Callable[[int], bytes]]:
    """Yield a function that reads the archive itself."""
    head = source.head(signature.LENGTH)
    argv = compression.decompressor(head)
    if argv is None or signature.is_tar(head):
        yield source.read
        return
    with compression.decompressed(source, argv) as read:
        yield read


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
        raise signature.disk_image(f"All it holds is '{disk}'.")
    return survey.facts()


def _is_disk(entry: Entry) -> bool:
    """Return whether it looks like what Debusine's system images hold."""
    path = PurePosixPath(entry.path)
    return (
        entry.kind == "file"
        and path.parent == PurePosixPath()
        and path.suffix in _DISK_SUFFIXES
    )
