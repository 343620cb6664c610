# SPDX-License-Identifier: GPL-3.0-or-later
"""What dpkg's own records say about a few packages."""

import re
from dataclasses import dataclass

#: Where the records are: one file, or one a package (as distroless has it).
STATUS = "var/lib/dpkg/status"
STATUS_DIRECTORY = "var/lib/dpkg/status.d"

#: States (deb-status words) in which a package's files are not there.
_ABSENT = {"not-installed", "config-files"}


@dataclass(frozen=True, kw_only=True)
class Package:
    """One installed package."""

    name: str
    version: str
    architecture: str


def installed(status: bytes, names: tuple[str, ...]) -> dict[str, Package]:
    """Return those of the named packages that a dpkg status file records.

    Only their paragraphs are parsed: a big system's file has thousands.
    """
    # It takes a quarter of the time that all of this takes to start, and only
    # an import needs it.
    from debian.deb822 import Deb822  # noqa: PLC0415

    wanted = re.compile(
        rb"(?m)^Package:[ \t]*(?:%s)[ \t\r]*$"
        % b"|".join(re.escape(name.encode()) for name in names)
    )
    found = {}
    for match in wanted.finditer(status):
        start = status.rfind(b"\n\n", 0, match.start()) + 1
        end = status.find(b"\n\n", match.end())
        record = Deb822(status[start : None if end < 0 else end + 1].lstrip())
        state = record.get("Status", "install ok installed").split()
        if state and state[-1] not in _ABSENT:
            found[record["Package"]] = Package(
                name=record["Package"],
                version=record.get("Version", ""),
                architecture=record.get("Architecture", ""),
            )
    return found
