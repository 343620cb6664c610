# SPDX-License-Identifier: GPL-3.0-or-later
"""Converts in this process, with what decides given as functions."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import IO

from incus_testbed.image.convert import Conversion, System, opened
from incus_testbed.image.fits import Place
from incus_testbed.image.stream import scratch
from incus_testbed.image.stream.source import Readable
from incus_testbed.limits.budget import Budget
from incus_testbed.system.disk import DiskSystem
from incus_testbed.system.entry import Entry
from incus_testbed.system.facts import Facts


@dataclass(frozen=True, kw_only=True)
class Converted(Conversion, System):
    """What came of it, and what was found."""


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
    with (
        scratch.file() as spare,
        opened(
            source,
            rootfs,
            spare,
            place=place,
            progress=progress,
            budget=budget,
        ) as convertible,
    ):
        system = convertible.survey()
        entries: Iterable[Entry] = ()
        if system.disk:
            admit(system.disk)
        elif system.facts:
            entries = additions(system.facts)
        made = convertible.write(entries, date=date)
        return Converted(**vars(made), **vars(system))
