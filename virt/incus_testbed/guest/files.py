# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of overlay/: what is installed into guests as it is."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from incus_testbed.image.entry import Entry

#: Read once, and early: after an upgrade of the package, a process that goes on
#: uses the files that its own code was written for.
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
    """Yield an entry a file: names in overlay/, paths in the guest."""
    for name, path in paths.items():
        yield entry(name, path)
