# SPDX-License-Identifier: GPL-3.0-or-later
"""Copy files and folders out of a testbed, instead of VirtSubproc.

VirtSubproc uses GNU tar to unpack what the testbed sends, into a folder that
may already exist.  GNU tar follows links that an earlier copy has left there.
"""

import contextlib
import io
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from incus_testbed import errors
from incus_testbed.errors import printable
from incus_testbed.instance.copyup import archive, file_copy, folder_copy
from incus_testbed.instance.copyup.limits import Limits
from incus_testbed.instance.copyup.source import Ended, Source
from incus_testbed.instance.copyup.tree import LeftOut, Link
from incus_testbed.process import programs

# TAR_OPTIONS is cleared so that the guest's environment can't change the
# format, which is the one that copyup.archive reads.
_SEND_FOLDER = (
    "cd {}; TAR_OPTIONS= tar --warning=none --format=gnu"
    f" --blocking-factor={archive.RECORD} --create --file=- .;"
    f" {archive.SAY_WHOLE}"
)
_SEND_FILE = "cat <{}"
_MAKE_LINKS = "cd {}; TAR_OPTIONS= tar --warning=none --extract --file=-"

#: How many folders we remember the links of, and how many characters of a name
#: we show.
_REMEMBERED = 16
_SHOWN = 300

TimeLimit = Callable[[], AbstractContextManager[None]]


class Copies:
    """The copies of one server, which remembers the links that it left out.

    autopkgtest copies a package's source out of a testbed and into the next
    one.  The links that must not be on this machine are needed again there.
    """

    def __init__(self) -> None:
        """Start without any copies."""
        self._links: dict[str, list[Link]] = {}

    def copy_folder(
        self, auxverb: Sequence[str], there: str, here: str, limit: TimeLimit
    ) -> list[str]:
        """Copy a folder out of the testbed; return what was left out.

        That is a line for each entry.  ``auxverb``: the words that run a
        command in the testbed.  ``limit`` is the time limit of the copy;
        removing an incomplete copy may take longer.

        :raises errors.TestbedError: the copy failed, and was removed
        :raises OSError: ``here`` can't be used
        """
        limits = Limits.from_environment()
        with folder_copy.folder_beside(Path(here)) as new, limit():
            with _sent(auxverb, _SEND_FOLDER, there) as source:
                new.receive(source, limits)
            new.finish()
        path, links = os.path.realpath(here), new.left_out.links
        self._links.pop(path, None)
        # The package's source is copied first; hostile tests copy many more
        # folders.
        if links and len(self._links) < _REMEMBERED:
            self._links[path] = links
        return list(_complaints(new.left_out))

    @staticmethod
    def copy_file(
        auxverb: Sequence[str], there: str, here: str, limit: TimeLimit
    ) -> None:
        """Copy a file out of the testbed; raises the same as copy_folder()."""
        limits = Limits.from_environment()
        target = Path(here)
        if file_copy.is_device(target):
            with limit(), _sent(auxverb, _SEND_FILE, there) as source:
                file_copy.copy_to_device(source, target)
            return
        with file_copy.file_beside(target) as new, limit():
            with _sent(auxverb, _SEND_FILE, there) as source:
                new.receive(source.rest(), limits)
            new.finish()

    def put_links_back(
        self, auxverb: Sequence[str], here: str, there: str, timeout: float
    ) -> None:
        """Make the remembered links of a folder again, in the testbed.

        ``here`` is the folder on this machine, which was copied to ``there``.

        :raises errors.TestbedError: the links can't be made
        """
        links = self._links.get(os.path.realpath(here))
        if links:
            argv = _in_guest(auxverb, _MAKE_LINKS, there)
            done = programs.run(argv, stdin=_archive(links), timeout=timeout)
            if done.status:
                raise errors.CommandFailed(
                    f"{len(links)} links can't be made in the testbed",
                    details=printable(done.stderr),
                )


def _complaints(left_out: LeftOut) -> Iterator[str]:
    """Yield one line for each entry that was left out."""
    for path, why in left_out.first:
        name = printable(os.fsdecode(path))
        yield f"left out {name[:_SHOWN]}: {why}"
    more = left_out.count - len(left_out.first)
    if more:
        yield f"and {more} more"


@contextlib.contextmanager
def _sent(auxverb: Sequence[str], command: str, path: str) -> Iterator[Source]:
    """Let the testbed send data, which has to be read to its end.

    If the data shows that it is complete, the sender is not waited for.

    :raises errors.CommandFailed: the testbed failed to send all of it
    """
    argv = _in_guest(auxverb, command, path)
    with programs.stream(
        argv, stdout=subprocess.PIPE, stderr=sys.stderr.fileno()
    ) as sender:
        assert sender.stdout  # noqa: S101  # it was asked for
        source = Source(sender.stdout.fileno())
        try:
            yield source
        except Ended:
            _check_status(sender.wait())
            raise
        if not source.whole:
            _check_status(sender.wait())


def _check_status(status: int) -> None:
    if status:
        raise errors.CommandFailed(
            f"The testbed failed to send it, with status {status}"
        )


def _in_guest(auxverb: Sequence[str], command: str, path: str) -> list[str]:
    return [*auxverb, "sh", "-ec", command.format(shlex.quote(path))]


def _archive(links: Sequence[Link]) -> bytes:
    # Here, because it takes a while to import and is seldom needed.
    import tarfile  # noqa: PLC0415

    file = io.BytesIO()
    with tarfile.open(
        fileobj=file, mode="w", format=tarfile.GNU_FORMAT
    ) as archive:
        for link in links:
            member = tarfile.TarInfo(os.fsdecode(link.path))
            member.type = tarfile.SYMTYPE
            member.linkname = os.fsdecode(link.target)
            archive.addfile(member)
    return file.getvalue()
