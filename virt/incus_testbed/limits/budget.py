# SPDX-License-Identifier: GPL-3.0-or-later
"""Limit what one import may use of disk, memory, processor and time.

The author of an imported file is unknown.  Every limit is checked while the
file is read, before the disk or the memory is full.
"""

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Self

from incus_testbed import errors
from incus_testbed.limits import settings

#: An environment variable can raise each limit.  Its name is this prefix and
#: the limit's name in upper case.
PREFIX = "INCUS_TESTBED_MAX_"

#: Bytes that any file may unpack to, however small it is.
_FREE = 1 << 30

#: Reading a byte of headers is about as much work as this many of content.
_HEADER_WORK = 64


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The limits of one import.

    The usual values leave room for real images: a Debian system has up to a
    few hundred thousand members and some GB, a system disk some tens of GB.
    """

    #: Bytes that the file unpacks to.
    unpacked_bytes: int = 64 << 30
    #: Unpacked size divided by packed size.  Real files stay below 100, disks
    #: that are mostly empty below 500.
    ratio: int = 1000
    #: Members of an archive.
    members: int = 2_000_000
    #: Bytes of a member's name, or of a link's target: Linux's PATH_MAX.
    name_bytes: int = 4096
    #: Bytes of one member's headers.  They usually have 512 to 2048 bytes; in
    #: those of a sparse file, each of its parts takes about 20 bytes.
    header_bytes: int = 1 << 20
    #: Bytes of the configuration files that are read, without dpkg's records;
    #: a real system has 200 KB.
    configuration_bytes: int = 1 << 20
    #: Bytes of dpkg's records; real ones stay below 5 MB.
    status_bytes: int = 16 << 20
    #: Bytes of memory for the archive's links.  A real archive has a few
    #: thousand, which take about 300 bytes each.
    link_bytes: int = 32 << 20
    #: Bytes of memory of the program that unpacks the file: enough for xz to
    #: unpack the output of 'xz -6' on all processors.
    decompressor_bytes: int = max(128 << 20, (os.cpu_count() or 1) * (64 << 20))
    #: Reads from a disk to find out what it holds; a real disk needs a few
    #: hundred.
    survey_reads: int = 100_000
    #: Bytes read from a disk to find out what it holds; a real disk needs a
    #: few MB.
    survey_bytes: int = 128 << 20
    #: Seconds, including the download.
    seconds: int = 3600

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] = os.environ
    ) -> Self:
        """Read the limits; those that are not set have their usual values.

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
    """Counts what an import uses, and refuses more than its budget allows."""

    def __init__(
        self,
        budget: Budget | None = None,
        *,
        packed: Callable[[], int] = lambda: sys.maxsize,
    ) -> None:
        """Start the clock.

        ``packed`` returns the size of the given file, as far as it is known.
        """
        self.budget = budget or Budget()
        self._packed = packed
        self._deadline = time.monotonic() + self.budget.seconds
        self._fits: Callable[[int], None] = lambda _: None
        self._members = self._headers = self._unpacked = 0
        self._reads = self._read_bytes = 0

    def require(self, fits: Callable[[int], None]) -> None:
        """From now on, call ``fits``, which raises if the result is too large.

        Its argument is the least number of bytes that the result has.
        """
        self._fits = fits
        fits(self._unpacked)

    def counted(self, read: Callable[[int], bytes]) -> Callable[[int], bytes]:
        """Return a read function that counts the unpacked bytes."""

        def counted_read(size: int) -> bytes:
            data = read(size)
            self._unpacked += len(data)
            self.check(self._unpacked, self._headers)
            self.remaining()
            return data

        return counted_read

    def member(self, headers: int) -> None:
        """Count a member of an archive, and the bytes of its headers."""
        self._members += 1
        self._headers += headers
        if self._members > self.budget.members:
            raise self.budget.refusal(
                "members",
                "The archive has too many members",
                f"It has more than {self._members - 1}.",
            )

    def announce(self, size: int) -> None:
        """Refuse a result of ``size`` bytes, before it is written.

        A sparse file may hold fewer bytes, because zeros take no room in it.
        """
        self._fits(size)
        if size > self.budget.unpacked_bytes:
            raise self.budget.refusal(
                "unpacked_bytes",
                "The file unpacks to too much",
                f"It has {size} bytes or more when it is unpacked.",
            )

    def check(self, size: int, headers: int = 0) -> None:
        """Refuse a result with too many bytes, or with too long headers."""
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
        """Return the most bytes that the result may have."""
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

    def count_read(self, size: int) -> None:
        """Count one read of ``size`` bytes that finds out what a disk holds.

        :raises errors.BadImage: the budget is used up
        """
        self._reads += 1
        self._read_bytes += size
        if self._reads > self.budget.survey_reads:
            raise self.budget.refusal(
                "survey_reads",
                "The disk's tables are too long, or lead in circles",
                f"They need more than {self.budget.survey_reads} reads.",
            )
        if self._read_bytes > self.budget.survey_bytes:
            raise self.budget.refusal(
                "survey_bytes",
                "The disk's tables are too long, or lead in circles",
                f"They need reads of at least {self._read_bytes} bytes.",
            )
        if not self._reads % 256:
            self.remaining()
