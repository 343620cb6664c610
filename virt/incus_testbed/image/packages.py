# SPDX-License-Identifier: GPL-3.0-or-later
"""What dpkg's own records say about a few packages."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from incus_testbed import errors

#: Where the records are: one file, or one a package (as distroless has it).
STATUS = "var/lib/dpkg/status"
STATUS_DIRECTORY = "var/lib/dpkg/status.d"

#: States (deb-status words) in which a package's files are not there.
_ABSENT = {"not-installed", "config-files"}

#: How many records of the same few packages are looked at: more than a system
#: of several architectures has.
_MOST_RECORDS = 100

#: A real record has a few KB.
_MOST_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Package:
    """One installed package."""

    name: str
    version: str
    architecture: str


def installed(status: bytes, names: tuple[str, ...]) -> dict[str, Package]:
    """Return those of the named packages that a dpkg status file records.

    Only their paragraphs are parsed: a big system's file has thousands.  Of
    several for one package, as for two architectures, the first that is
    installed counts.

    :raises errors.BadImage: a record makes no sense
    """
    wanted = re.compile(
        rb"(?m)^Package:[ \t]*(?:%s)[ \t\r]*$"
        % b"|".join(re.escape(name.encode()) for name in names)
    )
    found: dict[str, Package] = {}
    paragraphs = _paragraphs(status, wanted)
    for paragraph in itertools.islice(paragraphs, _MOST_RECORDS):
        package = _package(paragraph)
        if package:
            found.setdefault(package.name, package)
        if len(found) == len(names):
            return found
    if next(paragraphs, None) is not None:
        raise _senseless(f"More than {_MOST_RECORDS} are of the same packages.")
    return found


def _paragraphs(status: bytes, wanted: re.Pattern[bytes]) -> Iterator[bytes]:
    """Yield the paragraphs that have a wanted line, each once."""
    place = 0
    while match := wanted.search(status, place):
        start = status.rfind(b"\n\n", place, match.start()) + 1 or place
        end = status.find(b"\n\n", match.end())
        end = len(status) if end < 0 else end + 1
        if end - start > _MOST_BYTES:
            raise _senseless(f"One has {end - start} bytes.")
        yield status[start:end].lstrip()
        place = end


def _package(paragraph: bytes) -> Package | None:
    """Read a record; None for a package whose files are not there."""
    # It takes a quarter of the time that all of this takes to start, and only
    # an import needs it.
    from debian.deb822 import Deb822  # noqa: PLC0415

    try:
        record = Deb822(paragraph.decode(errors="replace"))
        state = record.get("Status", "install ok installed").split()
        if not state or state[-1] in _ABSENT:
            return None
        return Package(
            name=record["Package"],
            version=record.get("Version", ""),
            architecture=record.get("Architecture", ""),
        )
    except (LookupError, TypeError, ValueError) as error:
        raise _senseless(f"{type(error).__name__}: {error}.") from None


def _senseless(details: str) -> errors.BadImage:
    return errors.BadImage(
        f"The records of dpkg in /{STATUS} make no sense",
        details=details,
        resolution="Make the image anew.",
    )
