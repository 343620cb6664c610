# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes to a file, at random, of the kinds that trouble parsers."""

from collections.abc import Callable, Sequence
from random import Random

#: Numbers at the edges of what a field can hold.
_EDGES = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\xff\xff",
    b"\0\x80",
    b"\xff\xff\xff\xff",
    b"\0\0\0\x80",
    b"\xff\xff\xff\x7f",
    b"\xff" * 8,
    b"\0" * 8,
    b"\1\0\0\0",
    b"\n\n",
    b"-1",
    b"9" * 20,
)
_MOST_CHANGES = 8

#: Where in a file, and what is there instead.
Change = tuple[int, bytes]


def changes(
    random: Random, size: int, place: Callable[[Random], int] | None = None
) -> list[Change]:
    """Return some changes for a file of a size, which do not lengthen it."""
    return [
        (
            place(random) if place else random.randrange(size),
            random.choice(_EDGES)
            if random.random() < 0.7
            else random.randbytes(random.choice((1, 2, 4, 12))),
        )
        for _ in range(random.randint(1, _MOST_CHANGES))
    ]


def changed(random: Random, content: bytes) -> bytes:
    """Return a file with some changes, a part that is gone or comes twice."""
    data = bytearray(content)
    for place, value in changes(random, len(data)):
        data[place : place + len(value)] = value
    kind = random.randrange(6)
    start, end = sorted(random.randrange(len(data) + 1) for _ in range(2))
    if kind == 0:
        del data[start:end]
    elif kind == 1:
        data[start:start] = data[start:end]
    elif kind == 2:
        del data[end:]
    return bytes(data)


def one_of(random: Random, seeds: Sequence[bytes]) -> bytes:
    """Return one of several files, changed."""
    return changed(random, random.choice(seeds))
