# SPDX-License-Identifier: GPL-3.0-or-later
"""A tar archive that is read in passing, and added to at its end."""

import contextlib
import dataclasses
import tarfile
from collections.abc import Callable, Iterator
from typing import Literal

from incus_testbed import errors
from incus_testbed.image import signature
from incus_testbed.image.entry import Entry
from incus_testbed.image.passage import Passage

_Kind = Literal["file", "directory", "symlink", "hardlink", "other"]

# Two blocks of zeros end an archive (POSIX.1, pax, "ustar Interchange").
_END = bytes(2 * tarfile.BLOCKSIZE)

_ANEW = "Fetch or make the file anew."

_KINDS: dict[bytes, _Kind] = {
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
}
_TYPES = {kind: typeflag for typeflag, kind in _KINDS.items()}

#: What tarfile lets out where a header makes no sense.
NONSENSE = (
    tarfile.TarError,
    ArithmeticError,
    LookupError,
    RecursionError,
    ValueError,
)


class Archive:
    """An archive on its way to become a longer one.

    First iterate over ``entries``, then ``append``, then ``end``.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        write: Callable[[bytes | memoryview], None],
    ) -> None:
        """Take the archive from ``read``, give the longer one to ``write``."""
        self._passage = Passage(read, write)
        self._write = write
        self._size = 0
        self._inherited: dict[str, str] = {}

    def entries(self, wants_content: Callable[[str], bool]) -> Iterator[Entry]:
        """Yield the members in their order, and pass them on unchanged.

        A regular file's content is read where wants_content(path) says so.
        When the iteration ends, the source has been read whole.

        :raises errors.BadImage: it is no archive, or a damaged one
        """
        head = self._passage.read(signature.LENGTH)
        if not signature.is_tar(head):
            raise signature.not_a_tarball(head)
        self._passage.seek(0)
        with self._sense():
            tar = tarfile.TarFile(
                fileobj=self._passage,
                encoding="utf-8",
                errors="surrogateescape",
            )
        while member := self._next(tar):
            entry = _entry(member)
            if entry.kind == "file" and wants_content(entry.path):
                content = self._content(tar, member)
                entry = dataclasses.replace(entry, content=content)
            yield entry
        self._check_end(tar.offset)
        self._size = tar.offset
        self._inherited = dict(tar.pax_headers)

    def append(self, entry: Entry, *, date: int) -> None:
        """Add a member that belongs to root and was changed at date.

        Not of kind "other".
        """
        member = tarfile.TarInfo(entry.path)
        member.type = _TYPES.get(entry.kind, tarfile.REGTYPE)
        member.mode = entry.mode
        member.mtime = date
        member.uname = member.gname = "root"
        member.linkname = entry.target
        content = entry.content or b""
        member.size = len(content)
        # A global PAX header of the source would speak for this member too.
        member.pax_headers = {
            keyword: value
            for keyword, value in _records(member).items()
            if keyword in self._inherited
        }
        header = member.tobuf(
            tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
        )
        self._put(header + content + bytes(-len(content) % tarfile.BLOCKSIZE))

    def end(self) -> None:
        """Write the end marker, and fill the last record."""
        filled = self._size + len(_END)
        self._put(_END + bytes(-filled % tarfile.RECORDSIZE))

    def _next(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        with self._sense():
            member = tar.next()
            if member:
                # tarfile keeps all members, and memory would grow with them.
                tar.members.clear()  # type: ignore[attr-defined]
                self._passage.approve(tar.offset)
            return member

    def _content(self, tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
        with self._sense():
            file = tar.extractfile(member)
            assert file  # noqa: S101  # it is a regular file
            content = file.read()
            if len(content) < member.size:
                raise tarfile.ReadError("unexpected end of data")
            return content

    @contextlib.contextmanager
    def _sense(self) -> Iterator[None]:
        """Take what tarfile stumbles over for damage."""
        try:
            yield
        except NONSENSE as problem:
            raise self._damaged(str(problem)) from None

    def _put(self, data: bytes) -> None:
        self._write(data)
        self._size += len(data)

    def _check_end(self, position: int) -> None:
        """Read on from the end marker; refuse where there is none."""
        if not position:
            raise errors.BadImage("The archive is empty", resolution=_ANEW)
        self._passage.seek(position)
        if self._passage.read(len(_END)) != _END:
            raise self._damaged(f"no end marker at byte {position}")
        for chunk in self._passage.finish():
            if chunk.strip(b"\0"):
                raise errors.BadImage(
                    "The archive goes on after its end",
                    details=f"It ends at byte {position}, and tar would "
                    "ignore what follows.",
                    resolution="Join archives with tar --concatenate.",
                )

    def _damaged(self, details: str) -> errors.BadImage:
        cut = self._passage.exhausted
        return errors.BadImage(
            "The archive is cut short" if cut else "The archive is corrupt",
            details=f"{details} (read up to byte {self._passage.tell()})",
            resolution=_ANEW,
        )


def _entry(member: tarfile.TarInfo) -> Entry:
    target = member.linkname
    return Entry(
        path=_normalised(member.name),
        kind="file" if member.isreg() else _KINDS.get(member.type, "other"),
        mode=member.mode & 0o7777,
        target=_normalised(target) if member.islnk() else target,
    )


def _normalised(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in {"", "."})


def _records(member: tarfile.TarInfo) -> dict[str, str]:
    """Return what a PAX header can say of a member."""
    return {
        "path": member.name,
        "linkpath": member.linkname,
        "size": str(member.size),
        "mtime": str(member.mtime),
        "uid": "0",
        "gid": "0",
        "uname": member.uname,
        "gname": member.gname,
    }
