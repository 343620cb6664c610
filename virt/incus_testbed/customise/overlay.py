# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the files of overlay/, which are installed into guests unchanged."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from incus_testbed.system.entry import Entry

#: These are read once, at start-up: when the package is upgraded, a running
#: process keeps using the files that belong to its own code.
_CONTENT = {
    path.name: path.read_bytes()
    for path in Path(__file__).with_name("overlay").iterdir()
}


def content(name: str) -> bytes:
    """Return the bytes of a file of overlay/."""
    return _CONTENT[name]


def entry(name: str, path: str, *, mode: int = 0o644) -> Entry:
    """Return an entry that puts a file of overlay/ into a guest."""
    return Entry(path=path, kind="file", mode=mode, content=content(name))


def entries(paths: Mapping[str, str]) -> Iterator[Entry]:
    """Yield an entry for each file.

    ``paths`` maps names in overlay/ to paths in the guest.
    """
    for name, path in paths.items():
        yield entry(name, path)
