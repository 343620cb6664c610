# SPDX-License-Identifier: GPL-3.0-or-later
"""What an archive may write to: the root it is unpacked in."""

from collections.abc import Iterator

from incus_testbed import errors
from incus_testbed.image.entry import Entry

_DISTRUST = "Do not use this file unless you know who made it."


class Confinement:
    """Refuses members that would land outside the root.

    Memory grows only with the symbolic links that could lead outside: those
    that are absolute or climb.  GNU tar refuses to write through the same
    ones; here they are found before anything is imported.
    """

    def __init__(self) -> None:
        """Know of no link yet."""
        self._exits: set[str] = set()

    def check(self, entry: Entry) -> None:
        """See the next member.

        :raises errors.BadImage: it escapes
        """
        if not entry.path and entry.kind != "directory":
            raise errors.BadImage(
                "The archive replaces its root",
                details="A member that is called '.' is no directory.",
                resolution=_DISTRUST,
            )
        self._check_path(entry, entry.path)
        if entry.kind == "hardlink":
            self._check_path(entry, entry.target)
        if entry.kind == "symlink" and self._leads_out(entry):
            self._exits.add(entry.path)
        else:
            self._exits.discard(entry.path)

    def _check_path(self, entry: Entry, path: str) -> None:
        if _climbs(path):
            raise _escape(entry, f"'{path}' climbs out with '..'")
        for parent in _parents(path):
            if parent in self._exits:
                raise _escape(
                    entry,
                    f"'{parent}' is a symbolic link that may lead out, and "
                    "tar does not write through it.",
                )

    def _leads_out(self, entry: Entry) -> bool:
        return entry.target.startswith("/") or _climbs(entry.target)


def _climbs(path: str) -> bool:
    return ".." in path and ".." in path.split("/")


def _parents(path: str) -> Iterator[str]:
    end = path.find("/")
    while end > 0:
        yield path[:end]
        end = path.find("/", end + 1)


def _escape(entry: Entry, details: str) -> errors.BadImage:
    name = entry.path.encode(errors="surrogateescape").decode(errors="replace")
    return errors.BadImage(
        f"The archive writes outside its root: '{name}'",
        details=details,
        resolution=_DISTRUST,
    )
