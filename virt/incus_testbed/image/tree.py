# SPDX-License-Identifier: GPL-3.0-or-later
"""The few members of an archive worth remembering, as a file tree."""

import posixpath
import re
from collections.abc import Iterable

from incus_testbed import errors
from incus_testbed.image.entry import Entry

#: A real image has a few hundred; more is an attempt to fill the memory.
_MOST_MEMBERS = 10_000

#: Longer files are cut: all that is watched is a few lines of configuration.
_MOST_BYTES = 1 << 16

#: As the kernel has it.
_MOST_LINKS = 40


class Tree:
    """Members at watched paths; the later of two at one path counts.

    ``paths`` are remembered together with every directory on the way there,
    ``pattern`` matches further whole paths.
    """

    def __init__(self, *, paths: Iterable[str], pattern: str) -> None:
        """Say what is watched."""
        self._paths = set(paths)
        for path in list(self._paths):
            self._paths.update(parents(path))
        self._pattern = re.compile(pattern)
        self._members: dict[str, Entry] = {}

    def watches(self, path: str) -> bool:
        """Return whether a member at this path would be remembered."""
        return path in self._paths or bool(self._pattern.fullmatch(path))

    def remember(self, entry: Entry) -> None:
        """Keep the entry where its path is watched.

        :raises errors.BadImage: there are absurdly many
        """
        if not self.watches(entry.path):
            return
        if len(self._members) >= _MOST_MEMBERS:
            raise errors.BadImage(
                "The archive holds more configuration files than a Debian "
                f"system has, the last one being /{entry.path}"
            )
        content = entry.content[:_MOST_BYTES] if entry.content else b""
        self._members[entry.path] = Entry(
            path=entry.path,
            kind=entry.kind,
            mode=entry.mode,
            target=entry.target,
            content=content,
        )

    def member(self, path: str) -> Entry | None:
        """Return what is at a path; links among its parents are followed."""
        parent, name = posixpath.split(path)
        return self._members.get(posixpath.join(self._real(parent), name))

    def file(self, path: str) -> Entry | None:
        """Return what is at a path when links are followed to their end."""
        found = self._members.get(self._real(path))
        return found if found and found.kind != "symlink" else None

    def text(self, path: str) -> str:
        """Return a file's content, empty where there is none."""
        found = self.file(path)
        return (
            found.content.decode(errors="replace")
            if (found and found.content)
            else ""
        )

    def directories(self) -> frozenset[str]:
        """Return the watched paths that are directories, or lead to one."""
        return frozenset(
            path
            for path in self._members
            if (found := self.file(path)) and found.kind == "directory"
        )

    def names(self, directory: str) -> list[str]:
        """Return the names remembered in a directory, sorted."""
        prefix = self._real(directory) + "/"
        return sorted(
            path.removeprefix(prefix)
            for path in self._members
            if path.startswith(prefix) and "/" not in path[len(prefix) :]
        )

    def target(self, path: str) -> str:
        """Return the path a link finally leads to, whether watched or not."""
        return self._real(path)

    def _real(self, path: str) -> str:
        todo = path.split("/")[::-1]
        done: list[str] = []
        links = 0
        while todo:
            name = todo.pop()
            if name in {"", "."}:
                continue
            if name == "..":
                del done[-1:]
                continue
            done.append(name)
            found = self._members.get("/".join(done))
            if not found or found.kind not in {"symlink", "hardlink"}:
                continue
            links += 1
            if links > _MOST_LINKS:
                return path
            if found.kind == "hardlink" or found.target.startswith("/"):
                done.clear()
            else:
                done.pop()
            todo += found.target.split("/")[::-1]
        return "/".join(done)


def parents(path: str) -> list[str]:
    """Return the directories on the way to a path, the outermost first."""
    names = path.split("/")
    return ["/".join(names[:depth]) for depth in range(1, len(names))]
