# SPDX-License-Identifier: GPL-3.0-or-later
"""Read a tar archive that holds one disk image, which may be sparse."""

import io
import tarfile
from collections.abc import Callable, Iterator

from incus_testbed import errors
from incus_testbed.image.stream import magic
from incus_testbed.image.stream.source import CHUNK
from incus_testbed.image.tar import archive
from incus_testbed.image.tar.replay import END, NONSENSE, Passage
from incus_testbed.limits.budget import Budget


class Packed:
    """The file in an archive, read once, from front to back.

    It may have any path, because no file is written there.  Debusine's own
    task packs its disk as tmp/NAME/system.img.
    """

    def __init__(
        self, read: Callable[[int], bytes], budget: Budget | None = None
    ) -> None:
        """Read the archive from ``read``.

        :raises errors.BadImage: it is damaged
        """
        self._passage = Passage(read, lambda _: None, budget or Budget())
        self._tar = self._passage.archive()
        with self._passage.sense():
            member = self._tar.next()
            assert member  # noqa: S101 - shape() has seen it
            self._parts = list(archive.parts(member))
        self._member = member
        self.size: int = member.size

    @property
    def data_size(self) -> int | None:
        """Bytes of data in a sparse file, or else None."""
        if self._member.issparse():
            return sum(size for _, size, _ in self._parts)
        return None

    def pieces(self) -> Iterator[tuple[int, bytes]]:
        """Yield (offset, data) in order; all bytes between are zero.

        At the end of the iteration the whole archive has been read.

        :raises errors.BadImage: it is damaged, or holds other files too
        """
        for offset, size, place in self._parts:
            done = 0
            while done < size:
                wanted = min(CHUNK, size - done)
                self._passage.approve(place + done + wanted)
                self._passage.seek(place + done)
                data = self._passage.read(wanted)
                if len(data) < wanted:
                    raise self._passage.damaged(
                        f"it ends at byte {place + done + len(data)}"
                    )
                yield offset + done, data
                done += wanted
        self._check_end()

    def _check_end(self) -> None:
        end = self._tar.offset
        if end < self._passage.approved:
            raise self._passage.damaged("a header gives a wrong size")
        self._passage.seek(end)
        marker = self._passage.read(len(END))
        if marker != END:
            if len(marker) < len(END):
                raise self._passage.damaged(f"no end marker at byte {end}")
            raise errors.BadImage(
                "The archive holds more than a disk image",
                details=f"There is something after '{self._member.name}'.",
                resolution="Pack the disk image alone.",
            )
        for _ in self._passage.finish():
            pass


def begins_with_disk(head: bytes) -> bool:
    """Tell whether an archive that begins with ``head`` begins with a disk."""
    try:
        with tarfile.TarFile(fileobj=io.BytesIO(head)) as tar:
            member = tar.next()
        if not member or not member.isreg():
            return False
        content = bytearray(magic.LENGTH)
        for offset, size, place in archive.parts(member):
            if offset >= len(content):
                break
            end = min(offset + size, len(content))
            content[offset:end] = head[place : place + end - offset]
    except NONSENSE:
        return False
    return magic.is_disk(bytes(content[: member.size]))
