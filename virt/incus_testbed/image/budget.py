# SPDX-License-Identifier: GPL-3.0-or-later
"""What one import may take: of disk, of memory, of work and of time.

A file that is imported was made by somebody unknown.  Every limit is judged
while the file streams past, before the disk or the memory is full.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from incus_testbed import errors, settings

#: Each limit can be raised by a variable: this, and its name in upper case.
PREFIX = "INCUS_TESTBED_MAX_"

#: Bytes that may always come out of a file, however small it is.
_FREE = 1 << 30

#: A byte of headers is about as much work as so many bytes of content.
_HEADER_WORK = 64


def _decompressor_bytes() -> int:
    """Return what xz needs to use every processor for a file of xz -6."""
    return max(128 << 20, (os.cpu_count() or 1) * (64 << 20))


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The limits of one import.

    The usual values leave room for real images: a Debian system has up to a
    few hundred thousand members and some GB, a system disk some tens of GB.
    """

    #: Bytes that the file unpacks to.
    unpacked_bytes: int = 64 << 30
    #: How many times as large as the packed file that may be.  Real files
    #: stay below 100, disks that are mostly empty below 500.
    ratio: int = 1000
    #: Members of an archive.
    members: int = 2_000_000
    #: Bytes of a member's name, or of a link's target: Linux's PATH_MAX.
    name_bytes: int = 4096
    #: Bytes of one member's headers.  Usual ones have 512 to 2048; those of
    #: a sparse file list its parts, about 20 bytes each.
    header_bytes: int = 1 << 20
    #: Bytes of the files that are read of a system, but for dpkg's records;
    #: a real one has 200 KB.
    configuration_bytes: int = 1 << 20
    #: Bytes of dpkg's records; real ones stay below 5 MB.
    status_bytes: int = 16 << 20
    #: Bytes of memory for the archive's links; a real one has some thousand,
    #: of about 300 bytes each.
    link_bytes: int = 32 << 20
    #: Bytes of memory of the program that unpacks the file.
    decompressor_bytes: int = dataclasses.field(
        default_factory=_decompressor_bytes
    )
    #: Places that are read of a disk, to see what it holds; a real one takes
    #: some hundred.
    survey_reads: int = 100_000
    #: Bytes that are read of a disk, to see what it holds; a real one takes
    #: some MB.
    survey_bytes: int = 128 << 20
    #: Seconds, the download included.
    seconds: int = 3600

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] = os.environ
    ) -> Self:
        """Read the limits; what is not set is as usual.

        :raises errors.Unsupported: a value is not a whole number
        """
        usual = cls()
        return cls(
            **{
                field.name: settings.number(
                    variable(field.name),
                    getattr(usual, field.name),
                    environment,
                )
                for field in dataclasses.fields(cls)
            }
        )

    def refusal(self, name: str, brief: str, found: str) -> errors.BadImage:
        """Return the error for a file that goes beyond the limit ``name``."""
        limit = getattr(self, name)
        return errors.BadImage(
            brief,
            details=f"{found} The limit is {limit}.",
            resolution="Do not use this file unless you know who made it. To"
            f" allow more, set {variable(name)} in the environment.",
        )


def variable(name: str) -> str:
    """Return the environment variable that sets a limit."""
    return PREFIX + name.upper()


class Meter:
    """Counts what an import takes, and refuses what is beyond its budget."""

    def __init__(
        self,
        budget: Budget | None = None,
        *,
        packed: Callable[[], int] = lambda: sys.maxsize,
    ) -> None:
        """Start the clock.

        ``packed`` returns the size of the file as it is given, as far as that
        is known.
        """
        self.budget = budget or Budget()
        self._packed = packed
        self._deadline = time.monotonic() + self.budget.seconds
        self._fits: Callable[[int], None] = lambda _: None
        self._members = self._headers = self._unpacked = 0

    def require(self, fits: Callable[[int], None]) -> None:
        """From now on, have ``fits`` raise where the result has no place.

        It is called with the bytes that there are at least.
        """
        self._fits = fits
        fits(self._unpacked)

    def counted(self, read: Callable[[int], bytes]) -> Callable[[int], bytes]:
        """Return a read function of what the file unpacks to."""

        def counted_read(size: int) -> bytes:
            data = read(size)
            self._unpacked += len(data)
            self.check(self._unpacked, self._headers)
            self.remaining()
            return data

        return counted_read

    def member(self, headers: int) -> None:
        """Count a member of an archive, with so many bytes of headers."""
        self._members += 1
        self._headers += headers
        if self._members > self.budget.members:
            raise self.budget.refusal(
                "members",
                "The archive has too many members",
                f"It has more than {self._members - 1}.",
            )

    def announce(self, size: int) -> None:
        """Refuse a result of so many bytes, before it is written.

        What of it is zero need not be in the file.
        """
        self._fits(size)
        if size > self.budget.unpacked_bytes:
            raise self.budget.refusal(
                "unpacked_bytes",
                "The file unpacks to too much",
                f"It has {size} bytes or more when it is unpacked.",
            )

    def check(self, size: int, headers: int = 0) -> None:
        """Refuse a result that has so many bytes, and of members' headers."""
        self.announce(size)
        work = size + headers * _HEADER_WORK
        if work > _FREE and work > self._packed() * self.budget.ratio:
            raise self.budget.refusal(
                "ratio",
                "The file unpacks to far more than its own size",
                f"{self._packed()} bytes unpack to {size} bytes or more, with"
                f" {self._members} members in {headers} bytes of headers.",
            )

    def most(self) -> int:
        """Return how many bytes the result may have."""
        return min(
            self.budget.unpacked_bytes,
            max(_FREE, self._packed() * self.budget.ratio),
        )

    def remaining(self) -> float:
        """Return the seconds that are left.

        :raises errors.TimedOut: there are none
        """
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise errors.TimedOut(
                f"The import took more than {self.budget.seconds} s",
                resolution=f"To allow more, set {variable('seconds')} in the"
                " environment.",
            )
        return left


class Reads:
    """Counts what is read of a disk to see what it holds."""

    def __init__(self, meter: Meter) -> None:
        """Begin a survey."""
        self._meter = meter
        self._reads = 0
        self._bytes = 0

    def count(self, size: int) -> None:
        """Count one read of so many bytes.

        :raises errors.BadImage: it is one too many
        """
        budget = self._meter.budget
        self._reads += 1
        self._bytes += size
        if self._reads > budget.survey_reads:
            raise budget.refusal(
                "survey_reads",
                "The disk's tables are too long, or lead in circles",
                f"More than {budget.survey_reads} places were to be read.",
            )
        if self._bytes > budget.survey_bytes:
            raise budget.refusal(
                "survey_bytes",
                "The disk's tables are too long, or lead in circles",
                f"At least {self._bytes} bytes were to be read.",
            )
        if not self._reads % 256:
            self._meter.remaining()
