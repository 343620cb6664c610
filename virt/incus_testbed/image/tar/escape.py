# SPDX-License-Identifier: GPL-3.0-or-later
"""Refuse archives that write outside their root, or that tar can't unpack."""

import array

from incus_testbed import errors
from incus_testbed.errors import printable
from incus_testbed.limits.budget import Budget
from incus_testbed.system.entry import Entry

#: The kernel's limit of links in one path.
_MOST_LINKS = 40

#: Bytes of memory for a link, in addition to its name and its target.
_LINK_BYTES = 256
_FOLDER_BYTES = 256

_NOWHERE = "Do not use this file unless you know who made it."


class _Folder(dict[str, "_Folder | str"]):
    """Symbolic links (their targets) by name, and folders that hold some."""


class Confinement:
    """Refuses members that lie outside the root, or that tar can't unpack.

    GNU tar does not write through a symbolic link of the same archive if the
    link is absolute or contains "..".  For a hard link, tar needs the file
    that the link names.  Such members are found here before the import.

    Memory use grows with the symbolic links, up to the budget, and by 8 bytes
    for each member.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        """Start without any links."""
        self._budget = budget or Budget()
        self._root = _Folder()
        self._held = 0
        # The last member's folder: most members are in the same one.
        self._parent: str | None = None
        self._real = ""
        self._folder: _Folder | None = None
        # Hashes of the files that a hard link may name, in the order of the
        # archive; and hashes of the files that hard links do name, each with
        # the position before which it must be, and with the link's path.
        self._files = array.array("q")
        self._named: dict[int, tuple[int, str]] = {}

    def check(self, entry: Entry) -> None:
        """Check the next member.

        :raises errors.BadImage: it lies outside the root, or tar can't unpack
            it
        """
        if not entry.path and entry.kind != "directory":
            raise errors.BadImage(
                "The archive replaces its root",
                details="A member that is called '.' is not a directory.",
                resolution=_NOWHERE,
            )
        parent, _, name = entry.path.rpartition("/")
        if name == "..":
            raise _climbing(entry, entry.path)
        if parent != self._parent:
            self._real, self._folder = self._resolved(entry, parent)
            self._parent = parent
        if entry.kind == "directory":
            self._forget(name)
            return
        link = entry.target if entry.kind == "symlink" else None
        if entry.kind == "hardlink":
            link = self._linked(entry)
        if link is None:
            self._forget(name)
        else:
            self._add(name, link)
        self._files.append(hash(_joined(self._real, name)))

    def finish(self) -> None:
        """Check that each hard link comes after the file that it names.

        :raises errors.BadImage: one does not
        """
        if not self._named:
            return
        for position, number in enumerate(self._files):
            if number in self._named and position < self._named[number][0]:
                del self._named[number]
        for _, path in self._named.values():
            raise errors.BadImage(
                f"The archive has a hard link to a file that it does not hold:"
                f" '{printable(path)}'",
                details="tar can't unpack it.",
                resolution="Pack the archive again.",
            )

    def _resolved(self, entry: Entry, path: str) -> tuple[str, _Folder | None]:
        """Return the folder that a path leads to, and the links in it."""
        todo = path.split("/")[::-1] if path else []
        done: list[str] = []
        folder: _Folder | None = self._root
        links = 0
        while todo:
            name = todo.pop()
            if name in {"", "."}:
                continue
            if name == "..":
                raise _climbing(entry, path)
            found = None if folder is None else folder.get(name)
            if not isinstance(found, str):
                done.append(name)
                folder = found
                continue
            links += 1
            if _leads_out(found):
                raise _escape(
                    entry,
                    f"'{printable('/'.join([*done, name]))}' is a symbolic"
                    " link that may lead outside, and tar does not write"
                    " through it.",
                )
            if links > _MOST_LINKS:
                raise _escape(entry, "Its symbolic links lead in a circle.")
            todo += found.split("/")[::-1]
        return "/".join(done), folder

    def _linked(self, entry: Entry) -> str | None:
        """Note the file that a hard link names.

        If that file is a symbolic link, return its target.
        """
        parent, _, name = entry.target.rpartition("/")
        if name == "..":
            raise _climbing(entry, entry.target)
        real, folder = self._resolved(entry, parent)
        number = hash(_joined(real, name))
        if number not in self._named:
            self._hold(_LINK_BYTES)
            self._named[number] = (len(self._files), entry.path)
        found = None if folder is None else folder.get(name)
        return found if isinstance(found, str) else None

    def _add(self, name: str, target: str) -> None:
        """Remember a symbolic link in the folder that was entered."""
        self._hold(len(name) + len(target) + _LINK_BYTES)
        if self._folder is None:
            self._folder = self._made(self._real)
        self._folder[name] = target
        # The same path may lead to another folder now.
        self._parent = None

    def _made(self, path: str) -> _Folder:
        folder = self._root
        for name in path.split("/") if path else ():
            found = folder.get(name)
            if not isinstance(found, _Folder):
                self._hold(len(name) + _FOLDER_BYTES)
                found = folder[name] = _Folder()
            folder = found
        return folder

    def _forget(self, name: str) -> None:
        """Forget the symbolic link of this name, if there is one."""
        if self._folder and isinstance(self._folder.get(name), str):
            del self._folder[name]
            self._parent = None

    def _hold(self, size: int) -> None:
        self._held += size
        if self._held > self._budget.link_bytes:
            raise self._budget.refusal(
                "link_bytes",
                "The archive has more links than fit into memory",
                f"They take more than {self._budget.link_bytes} bytes.",
            )


def _leads_out(target: str) -> bool:
    return target.startswith("/") or (
        ".." in target and ".." in target.split("/")
    )


def _joined(parent: str, name: str) -> str:
    return f"{parent}/{name}" if parent else name


def _climbing(entry: Entry, path: str) -> errors.BadImage:
    return _escape(entry, f"'{printable(path)}' contains '..'")


def _escape(entry: Entry, details: str) -> errors.BadImage:
    return errors.BadImage(
        f"The archive writes outside its root: '{printable(entry.path)}'",
        details=details,
        resolution=_NOWHERE,
    )
