# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy a tar archive: read its members on the way, and append new ones."""

import dataclasses
import tarfile
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from incus_testbed import errors
from incus_testbed.image.stream import magic
from incus_testbed.image.tar import header
from incus_testbed.image.tar.replay import END, Passage
from incus_testbed.limits.budget import Meter
from incus_testbed.system.entry import Entry

#: Type of a member that is continued in another archive.
_CONTINUED = b"M"

#: Keywords of global headers, which apply to all members; real archives have
#: a few.
_MOST_GLOBAL = 32

#: Bytes of a name in a file system: Linux's NAME_MAX.
_LONGEST_NAME = 255

_Kind = Literal["file", "directory", "symlink", "hardlink", "other"]

_KINDS: dict[bytes, _Kind] = {
    tarfile.DIRTYPE: "directory",
    tarfile.SYMTYPE: "symlink",
    tarfile.LNKTYPE: "hardlink",
}
_TYPES = {kind: typeflag for typeflag, kind in _KINDS.items()}


class Archive:
    """An archive that is copied and made longer.

    First iterate over ``entries``, then call ``append``, then ``end``.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        write: Callable[[bytes | memoryview], None],
        meter: Meter | None = None,
    ) -> None:
        """Read an archive with ``read``; ``write`` the longer one."""
        self._meter = meter or Meter()
        self._budget = self._meter.budget
        self._passage = Passage(read, write, self._budget)
        self._write = write
        self._size = 0
        self._inherited: dict[str, str] = {}

    def entries(
        self,
        wants_content: Callable[[str], bool],
        check_size: Callable[[str, int], None] = lambda _path, _size: None,
    ) -> Iterator[Entry]:
        """Yield the members in their order, and copy them unchanged.

        A regular file's content is read if wants_content(path) is true, unless
        check_size(path, size) raises.  At the end of the iteration the whole
        source has been read.

        :raises errors.BadImage: it is not an archive, or it is damaged
        """
        head = self._passage.read(magic.LENGTH)
        if not magic.is_tar(head):
            raise magic.not_a_tarball(head)
        self._passage.seek(0)
        tar = self._passage.archive()
        while member := self._next(tar):
            entry = self._entry(member)
            if entry.kind == "file" and wants_content(entry.path):
                check_size(entry.path, member.size)
                content = self._content(member)
                entry = dataclasses.replace(entry, content=content)
            yield entry
        self._check_end(tar.offset)
        self._size = tar.offset
        self._inherited = dict(tar.pax_headers)

    def append(self, entry: Entry, *, date: int) -> None:
        """Add a member that is owned by root and has ``date`` as its mtime.

        Its kind can't be "other".

        :raises errors.BadImage: its name, taken from the image, is too long
        """
        self._check_length(entry.path)
        _check_parts(entry.path)
        member = tarfile.TarInfo(entry.path)
        member.type = _TYPES.get(entry.kind, tarfile.REGTYPE)
        member.mode = entry.mode
        member.mtime = date
        member.uname = member.gname = "root"
        member.linkname = entry.target
        content = entry.content or b""
        member.size = len(content)
        # A global PAX header of the source would apply to this member too.
        member.pax_headers = {
            keyword: value
            for keyword, value in _records(member).items()
            if keyword in self._inherited
        }
        head = member.tobuf(
            tarfile.PAX_FORMAT, encoding="utf-8", errors="surrogateescape"
        )
        self._put(head + content + bytes(-len(content) % tarfile.BLOCKSIZE))

    def end(self) -> None:
        """Write the end marker, and fill the last record."""
        filled = self._size + len(END)
        self._put(END + bytes(-filled % tarfile.RECORDSIZE))

    def _next(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        with self._passage.sense():
            start = self._passage.approved
            member = self._plain(tar) or tar.next()
            if member:
                # tarfile keeps all members, and memory would grow with them.
                tar.members.clear()  # type: ignore[attr-defined]
                self._passage.approve(tar.offset)
                self._meter.member(member.offset_data - start)
                if tar.pax_headers:
                    self._check_global(tar.pax_headers)
            return member

    def _plain(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        """Read the next member as tarfile does, if its header is plain."""
        if not self._passage.approved or tar.pax_headers:
            return None
        # tarfile, which has its turn if this returns None, goes back one byte.
        self._passage.seek(tar.offset - 1)
        member = header.plain(self._passage.read(1 + header.SIZE)[1:])
        if member:
            member.offset = tar.offset
            member.offset_data = tar.offset + header.SIZE
            blocks = -(-member.size // tarfile.BLOCKSIZE)
            tar.offset = member.offset_data + blocks * tarfile.BLOCKSIZE
        return member

    def _check_global(self, headers: Mapping[str, str]) -> None:
        """Refuse long global headers: tarfile reads them for every member."""
        size = sum(map(len, headers)) + sum(map(len, headers.values()))
        if len(headers) > _MOST_GLOBAL or size > self._budget.name_bytes:
            raise errors.BadImage(
                "The archive's global headers are too long",
                details=f"They have {len(headers)} keywords and {size}"
                f" characters, and may have {_MOST_GLOBAL} and"
                f" {self._budget.name_bytes}.",
                resolution="Unpack the archive, and pack it again.",
            )

    def _entry(self, member: tarfile.TarInfo) -> Entry:
        """Return the entry for a member.

        :raises errors.BadImage: tar can't unpack it
        """
        name, target = member.name, member.linkname
        # A character has at most four bytes.
        if 4 * max(len(name), len(target)) >= self._budget.name_bytes:
            self._check_length(name)
            self._check_length(target)
        if "\0" in name or "\0" in target or member.type == _CONTINUED:
            raise errors.BadImage(
                f"tar can't unpack a member of the archive: {name[:200]!r}",
                details="It is continued in another archive."
                if member.type == _CONTINUED
                else "There is a NUL character in its name.",
                resolution="Pack the archive again.",
            )
        path = _normalised(name)
        if len(path) > _LONGEST_NAME or not path.isascii():
            _check_parts(path)
        return Entry(
            path=path,
            kind="file" if member.isreg() else _KINDS.get(member.type, "other"),
            mode=member.mode & 0o7777,
            target=_normalised(target) if member.islnk() else target,
        )

    def _check_length(self, name: str) -> None:
        size = len(name.encode(errors="surrogateescape"))
        if size >= self._budget.name_bytes:
            raise self._budget.refusal(
                "name_bytes",
                "A name in the archive is too long",
                f"'{name[:60]}...' has {size} bytes.",
            )

    def _content(self, member: tarfile.TarInfo) -> bytes:
        with self._passage.sense():
            content = bytearray(member.size)
            for offset, size, place in parts(member):
                self._passage.seek(place)
                data = self._passage.read(size)
                if len(data) < size:
                    raise tarfile.ReadError("unexpected end of data")
                content[offset : offset + size] = data
            return bytes(content)

    def _put(self, data: bytes) -> None:
        self._write(data)
        self._size += len(data)

    def _check_end(self, position: int) -> None:
        """Refuse an archive without an end marker; read what follows it."""
        if not position:
            raise errors.BadImage(
                "The archive is empty",
                resolution="Download the file again, or build it again.",
            )
        self._passage.seek(position)
        if self._passage.read(len(END)) != END:
            raise self._passage.damaged(f"no end marker at byte {position}")
        for chunk in self._passage.finish():
            if chunk.strip(b"\0"):
                raise errors.BadImage(
                    "The archive goes on after its end",
                    details=f"It ends at byte {position}, and tar would "
                    "ignore the rest.",
                    resolution="Join archives with tar --concatenate.",
                )


def parts(member: tarfile.TarInfo) -> Iterator[tuple[int, int, int]]:
    """Yield the parts of a regular file that are not zero.

    Each is a tuple: offset in the file, size, offset in the archive.

    :raises tarfile.ReadError: the list of a sparse file's parts is wrong
    """
    end, place = 0, member.offset_data
    sparse: list[tuple[int, int]] | None = getattr(member, "sparse", None)
    for offset, size in [(0, member.size)] if sparse is None else sparse:
        if not size:
            continue
        if offset < end or size < 0 or offset + size > member.size:
            raise tarfile.ReadError(
                "the list of a sparse file's parts is wrong"
            )
        yield offset, size, place
        end = offset + size
        place += size


def _check_parts(path: str) -> None:
    for part in path.split("/"):
        size = len(part.encode(errors="surrogateescape"))
        if size > _LONGEST_NAME:
            raise errors.BadImage(
                "A file's name in the archive is too long for a file system",
                details=f"'{part[:60]}...' has {size} bytes, more than"
                f" {_LONGEST_NAME}.",
                resolution="Pack the archive again.",
            )


def _normalised(name: str) -> str:
    return "/".join(part for part in name.split("/") if part not in {"", "."})


def _records(member: tarfile.TarInfo) -> dict[str, str]:
    """Return the values that a PAX header can give for a member."""
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
