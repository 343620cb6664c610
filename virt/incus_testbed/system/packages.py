# SPDX-License-Identifier: GPL-3.0-or-later
"""Read dpkg's records of a few packages."""

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass

from incus_testbed import errors

#: Place of the records: one file, or one file per package (in distroless).
STATUS = "var/lib/dpkg/status"
STATUS_DIRECTORY = "var/lib/dpkg/status.d"

#: States (words of a Status field) in which a package's files are absent.
_ABSENT = {"not-installed", "config-files"}

#: Records of the named packages that are read; a system with several
#: architectures has fewer.
_MOST_RECORDS = 100

#: Bytes of a record; a real one has a few KB.
_MOST_BYTES = 1 << 16


@dataclass(frozen=True, kw_only=True)
class Package:
    """One installed package."""

    name: str
    version: str
    architecture: str

    @property
    def major(self) -> int | None:
        """The first number of the upstream version, if there is one."""
        found = re.match(r"(?:\d{1,9}:)?(\d{1,9})", self.version)
        return int(found[1]) if found else None


def is_status(path: str) -> bool:
    """Tell whether a file of the image holds records."""
    directory, _, name = path.rpartition("/")
    return path == STATUS or (
        directory == STATUS_DIRECTORY and not name.endswith(".md5sums")
    )


def installed(status: bytes, names: tuple[str, ...]) -> dict[str, Package]:
    """Return the named packages that are installed by a dpkg status file.

    Only their paragraphs are parsed: a large system's file has thousands.  If
    a package has several paragraphs, such as one per architecture, the first
    installed one counts.

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
    # This import takes a quarter of the whole program's start-up time, and
    # only an image import needs it.
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
        resolution="Build the image again.",
    )
