# SPDX-License-Identifier: GPL-3.0-or-later
"""Copies out of a testbed, in place of VirtSubproc's.

VirtSubproc unpacks what the testbed sends into a folder that may be there,
with GNU tar, which follows the links that an earlier copy has left in it.
"""

import contextlib
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from incus_testbed import errors, process, reporting
from incus_testbed.copyout import copy
from incus_testbed.copyout.limits import Limits
from incus_testbed.copyout.source import Ended, Source
from incus_testbed.copyout.tree import LeftOut

# The format is the one that copyout.archive reads, whatever the guest's
# environment says.
_SEND_FOLDER = (
    "cd {}; TAR_OPTIONS= tar --warning=none --format=gnu --create --file=- ."
)
_SEND_FILE = "cat <{}"


def copy_folder(auxverb: Sequence[str], there: str, here: str) -> LeftOut:
    """Copy a folder out of the testbed; return what has no place here.

    ``auxverb``: the words that run a command in the testbed.

    :raises errors.TestbedError: the copy failed, and nothing is left of it
    :raises OSError: ``here`` can't be used
    """
    limits = Limits.from_environment()
    target = Path(here)
    with copy.folder_beside(target) as new:
        with _sent(auxverb, _SEND_FOLDER, there) as source:
            new.receive(source, limits)
        new.finish()
    return new.left_out


def copy_file(auxverb: Sequence[str], there: str, here: str) -> None:
    """Copy a file out of the testbed; as copy_folder()."""
    limits = Limits.from_environment()
    target = Path(here)
    if copy.is_device(target):
        with _sent(auxverb, _SEND_FILE, there) as source:
            copy.copy_to_device(source, target)
        return
    with copy.file_beside(target) as new:
        with _sent(auxverb, _SEND_FILE, there) as source:
            new.receive(source, limits)
        new.finish()


def complaints(left_out: LeftOut) -> Iterator[str]:
    """Yield what to say of what was left out, each in one line."""
    for path, why in left_out.first:
        yield f"left out {reporting.printable(os.fsdecode(path))}: {why}"
    more = left_out.count - len(left_out.first)
    if more:
        yield f"and {more} more"


@contextlib.contextmanager
def _sent(
    auxverb: Sequence[str], command: str, path: str
) -> Iterator[Source]:
    """Have the testbed send something, which has to be read to its end.

    :raises errors.CommandFailed: the testbed failed to send all of it
    """
    argv = [*auxverb, "sh", "-ec", command.format(shlex.quote(path))]
    with process.stream(
        argv, stdout=subprocess.PIPE, stderr=sys.stderr.fileno()
    ) as sender:
        assert sender.stdout  # noqa: S101  # it was asked for
        try:
            yield Source(sender.stdout.fileno())
        except Ended:
            _check_status(sender.wait())
            raise
        _check_status(sender.wait())


def _check_status(status: int) -> None:
    if status:
        raise errors.CommandFailed(
            f"The testbed failed to send it, with status {status}"
        )
