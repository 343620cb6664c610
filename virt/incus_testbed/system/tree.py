# SPDX-License-Identifier: GPL-3.0-or-later
"""Remember the few members of an archive that matter, as a file tree."""

import dataclasses
import posixpath
import re
from collections.abc import Iterable

from incus_testbed import errors
from incus_testbed.limits.budget import Budget
from incus_testbed.system.entry import Entry

#: A real image has a few hundred; more is an attempt to fill the memory.
_MOST_MEMBERS = 2000

#: The kernel's limit of links in one path.
_MOST_LINKS = 40

#: Steps to resolve all paths, one for each name; a real image needs about
#: 10,000.
_MOST_STEPS = 1_000_000


class _Node(dict[str, "_Node"]):
    """The entry at a path, and the nodes below it."""

    entry: Entry | None = None


#: The node at a path where nothing is remembered.
_NOTHING = _Node()


class Tree:
    """Members at watched paths; a later member replaces an earlier one.

    ``paths`` and all their parent directories are watched, and all paths that
    match ``pattern`` as a whole.
    """

    def __init__(
        self,
        *,
        paths: Iterable[str],
        pattern: str,
        budget: Budget | None = None,
    ) -> None:
        """Set the watched paths."""
        self._paths = set(paths)
        for path in list(self._paths):
            self._paths.update(parents(path))
        self._pattern = re.compile(pattern)
        self._budget = budget or Budget()
        self._root = _Node()
        self._members = 0
        self._held = 0
        self._steps = 0

    def watches(self, path: str) -> bool:
        """Return whether a member at this path would be remembered."""
        return path in self._paths or bool(self._pattern.fullmatch(path))

    def remember(self, entry: Entry) -> None:
        """Keep the entry if its path is watched.

        :raises errors.BadImage: there are more than in any real system
        """
        if not self.watches(entry.path):
            return
        self._members += 1
        if self._members > _MOST_MEMBERS:
            raise errors.BadImage(
                "The archive holds more configuration files than a Debian "
                f"system has, the last one being /{entry.path}"
            )
        self._held += len(entry.content or b"")
        if self._held > self._budget.configuration_bytes:
            raise self._budget.refusal(
                "configuration_bytes",
                "The image's configuration is too long",
                f"With /{entry.path} it has {self._held} bytes.",
            )
        node = self._root
        for name in entry.path.split("/"):
            node = node.setdefault(name, _Node())
        node.entry = dataclasses.replace(entry, content=entry.content or b"")

    def member(self, path: str) -> Entry | None:
        """Return the entry at a path; links among its parents are followed."""
        parent, name = posixpath.split(path)
        return self._found(parent)[1].get(name, _NOTHING).entry

    def file(self, path: str) -> Entry | None:
        """Return the entry at a path; all links are followed."""
        entry = self._found(path)[1].entry
        return entry if entry and entry.kind != "symlink" else None

    def text(self, path: str) -> str:
        """Return a file's content, empty if there is no such file."""
        found = self.file(path)
        content = found.content if found else None
        return (content or b"").decode(errors="replace")

    def directories(self) -> frozenset[str]:
        """Return the watched paths that are directories, or lead to one.

        Paths that only match the pattern are left out.
        """
        return frozenset(
            path
            for path in self._paths
            if (found := self.file(path)) and found.kind == "directory"
        )

    def names(self, directory: str) -> list[str]:
        """Return the names remembered in a directory, sorted."""
        folder = self._found(directory)[1]
        return sorted(name for name, node in folder.items() if node.entry)

    def target(self, path: str) -> str:
        """Return the path to which a link finally leads, watched or not."""
        return self._found(path)[0]

    def _found(self, path: str) -> tuple[str, _Node]:
        """Follow all links of a path; return the final path and its node.

        If the links lead in a circle, return the path itself and _NOTHING.

        :raises errors.BadImage: too many steps are needed
        """
        todo = path.split("/")[::-1]
        done: list[str] = []
        nodes = [self._root]
        links = 0
        while todo:
            name = todo.pop()
            self._steps += 1
            if self._steps > _MOST_STEPS:
                raise errors.BadImage(
                    "The image's symbolic links are too long",
                    details=f"One of them is on the way to /{path[:200]}.",
                    resolution="Build the image again, without them.",
                )
            if name in {"", "."}:
                continue
            if name == "..":
                del done[-1:]
                del nodes[len(done) + 1 :]
                continue
            node = nodes[-1].get(name, _NOTHING)
            entry = node.entry
            if not entry or entry.kind not in {"symlink", "hardlink"}:
                done.append(name)
                nodes.append(node)
                continue
            links += 1
            if links > _MOST_LINKS:
                return path, _NOTHING
            if entry.kind == "hardlink" or entry.target.startswith("/"):
                done.clear()
                del nodes[1:]
            todo += entry.target.split("/")[::-1]
        return "/".join(done), nodes[-1]


def parents(path: str) -> list[str]:
    """Return the directories on the way to a path, the outermost first."""
    names = path.split("/")
    return ["/".join(names[:depth]) for depth in range(1, len(names))]
