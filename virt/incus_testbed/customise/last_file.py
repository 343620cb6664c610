# SPDX-License-Identifier: GPL-3.0-or-later
"""Name the file that comes last in an image: if it is there, all is there.

Incus unpacks an image when the first instance is made of it.  If Incus is
killed meanwhile, what it has unpacked stays, and later instances are copies of
that (seen with Incus 6.0.4).
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

#: systemd looks for generators in this folder; distrobuilder's has this name.
GENERATOR = "etc/systemd/system-generators/lxc"
INITTAB = "etc/inittab"
#: Nothing in a guest changes these while it boots.
PATHS = (GENERATOR, INITTAB)

_KEY = "incus-testbed.last-file"
_VALUE = re.compile(r"([0-9]{1,12}) ([a-z][a-z/-]{0,99})", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class LastFile:
    """A file of an image, by its path from the root, and its date.

    The image may have had another one of this path, with another date.  The
    date is in seconds since 1970.
    """

    path: str
    date: int


def properties(path: str, date: int) -> dict[str, str]:
    """Return what an image is to say of its last file; "" is none."""
    return {_KEY: f"{date} {path}"} if path else {}


def of(properties: Mapping[str, str], created: datetime) -> LastFile | None:
    """Return the last file of an image of that date, if it says which it is.

    What 'incus publish' makes has the properties of another image, and another
    date.
    """
    found = _VALUE.fullmatch(properties.get(_KEY, ""))
    if not found or int(found[1]) != int(created.timestamp()):
        return None
    return LastFile(path=found[2], date=int(found[1]))
