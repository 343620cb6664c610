# SPDX-License-Identifier: GPL-3.0-or-later
"""Converts in this process, with what decides given as functions."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import IO

from incus_testbed.image.convert import opened
from incus_testbed.image.fits import Place
from incus_testbed.image.stream import scratch
from incus_testbed.image.stream.source import Readable, Source
from incus_testbed.limits.budget import Budget
from incus_testbed.system.disk import DiskSystem
from incus_testbed.system.entry import Entry
from incus_testbed.system.facts import Facts


@dataclass(frozen=True, kw_only=True)
class Converted:
    """What came of it, and what was found."""

    rootfs: IO[bytes]
    sha256: str
    source_size: int
    unpacked_size: int
    facts: Facts | None
    disk: DiskSystem | None


def convert(
    source: Readable,
    rootfs: IO[bytes],
    *,
    additions: Callable[[Facts], Iterable[Entry]],
    admit: Callable[[DiskSystem], None] = lambda _: None,
    place: Place | None = None,
    date: int,
    progress: Callable[[int], None] | None = None,
    budget: Budget | None = None,
) -> Converted:
    """Make what is in source the root of a container or virtual machine.

    A tarball gets the additions; ``admit`` raises if a disk won't do.
    """
    given = Source(source, progress)
    with (
        scratch.file() as spare,
        opened(given, rootfs, spare, place=place, budget=budget) as convertible,
    ):
        system = convertible.survey()
        entries: Iterable[Entry] = ()
        if isinstance(system, DiskSystem):
            disk, facts = system, system.facts
            admit(system)
        else:
            disk, facts = None, system
            entries = additions(system)
        file, unpacked_size = convertible.write(entries, date=date)
        return Converted(
            rootfs=file,
            sha256=given.sha256,
            source_size=given.size,
            unpacked_size=unpacked_size,
            facts=facts,
            disk=disk,
        )
