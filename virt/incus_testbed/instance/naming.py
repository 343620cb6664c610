# SPDX-License-Identifier: GPL-3.0-or-later
"""Make up names of instances, which tell instances of one process together.

Incus lists the names of all instances at once, and takes long to say more of
each.  So a name is made of where its process runs (machine, boot and pid
namespace), of the process, and of chance.  Names decide nothing: they only save
looking at an instance that has the same owner as another one.
"""

import hashlib
import os
import re
from collections.abc import Iterable

from incus_testbed.ownership.owner import Owner

_LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
_PREFIX = "testbed-"
_MADE_UP = re.compile(rf"{_PREFIX}([a-z0-9]{{3}})([a-z0-9]{{5}})[a-z0-9]{{3}}")
#: Earlier versions made names of chance alone.
_EARLIER = re.compile(rf"{_PREFIX}[a-z0-9]{{8}}")


def make_up() -> str:
    """Return a name for an instance of this process."""
    place, process = _words(Owner.current())
    return f"{_PREFIX}{place}{process}{_letters(os.urandom(3))}"


def may_be_ours(name: str) -> bool:
    """Tell whether a name looks as if this software made it up."""
    return name.startswith(_PREFIX)


def groups(names: Iterable[str]) -> list[list[str]]:
    """Return the made-up names, in groups that have the same owner.

    Those of another place are one group: from here, all its processes count as
    alive, or all as ended.  A name of an earlier version is a group of its own.
    """
    here, _ = _words(Owner.current())
    found: dict[str, list[str]] = {}
    for name in names:
        if parts := _MADE_UP.fullmatch(name):
            place, process = parts.groups()
            group = place + process if place == here else place
            found.setdefault(group, []).append(name)
        elif _EARLIER.fullmatch(name):
            found[name] = [name]
    return list(found.values())


def _words(owner: Owner) -> tuple[str, str]:
    """Return short hashes of an owner's place, and of the owner."""
    place = f"{owner.host}/{owner.boot}/{owner.pid_namespace}"
    return _word(place, 3), _word(str(owner), 5)


def _word(text: str, length: int) -> str:
    digest = hashlib.blake2b(text.encode(), digest_size=length).digest()
    return _letters(digest)


def _letters(data: bytes) -> str:
    """Return a letter or digit for each byte."""
    return "".join(_LETTERS[byte % len(_LETTERS)] for byte in data)
