# SPDX-License-Identifier: GPL-3.0-or-later
"""Run mmdebstrap, and read the tarball that it makes while it makes it.

It runs in namespaces of its own, with --mode=unshare, also as root: whatever
ends it, nothing stays mounted.  It removes its temporary folder itself, after
SIGTERM too.  If this process is killed, mmdebstrap notices that when it writes
the tarball, which nobody reads, and then removes its folder as well.

Its messages go to a file without a name: a pipe that nobody reads would keep
mmdebstrap from cleaning up.
"""

import contextlib
import os
import re
import select
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import IO

from incus_testbed import errors
from incus_testbed.image.stream import scratch
from incus_testbed.image.stream.producer import SHOWN_LINES, Producer
from incus_testbed.process import programs

_PROGRAM = "mmdebstrap"

#: Seconds to try the namespaces; to end and remove the temporary folder.
_TRIAL_LIMIT = 60.0
_CLEANUP_LIMIT = 120.0


def check() -> None:
    """Check that mmdebstrap is installed and can work for this user.

    :raises errors.MissingProgram: it is not installed
    :raises errors.Unsupported: this user can't make namespaces
    """
    trial = [_PROGRAM, "--unshare-helper", "true"]
    done = programs.run(trial, timeout=_TRIAL_LIMIT)
    if not done.status:
        return
    if os.geteuid() == 0:
        resolution = (
            "In a container, allow it to make namespaces: for Incus,"
            " security.nesting=true"
        )
    else:
        resolution = (
            "Run this as root. Or have an admin run: apt install uidmap;"
            " usermod --add-subuids 100000-165535 --add-subgids 100000-165535"
            " USER"
        )
    raise errors.Unsupported(
        "mmdebstrap can't make the namespaces that it needs",
        details=_last_lines(done.stderr),
        resolution=resolution,
    )


@contextlib.contextmanager
def running(
    arguments: Sequence[str], sources: str, variables: Mapping[str, str]
) -> Iterator["Bootstrap"]:
    """Run it beside this process; end it with the block.

    ``arguments`` are its options and the suite, ``sources`` a deb822 file,
    ``variables`` are for its environment.
    """
    with scratch.file() as stdin, scratch.file() as messages:
        stdin.write(sources.encode())
        stdin.seek(0)
        with programs.stream(
            [_PROGRAM, "--mode=unshare", "--format=tar", *arguments, "-", "-"],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=messages,
            variables={"TMPDIR": str(scratch.folder()), **variables},
            grace=_CLEANUP_LIMIT,
        ) as child:
            yield Bootstrap(_PROGRAM, child, messages, _CLEANUP_LIMIT)


class Bootstrap(Producer):
    """The tarball of a mmdebstrap that runs."""

    @property
    def tarball(self) -> IO[bytes]:
        """The pipe, for a child that reads it instead of read()."""
        return self._stdout

    def is_sent(self) -> bool:
        """Tell whether nothing more will come through the pipe."""
        poll = select.poll()
        poll.register(self._stdout, 0)
        return any(event & select.POLLHUP for _, event in poll.poll(0))

    def step(self) -> str:
        """Return what it said last that it does; empty at first."""
        said = re.findall(r"(?m)^I: (.*)\.\.\.$", self.said())
        return said[-1] if said else ""

    def last_lines(self) -> str:
        """Return the end of its messages, without those about its progress."""
        return _last_lines(self.said())

    def advice(self) -> str:
        """Return what the user can do about a suite that is not there."""
        if "does not have a Release file" not in self.said():
            return ""
        return (
            "See which suites the mirror has, in its folder dists/, or name"
            " another with --mirror."
        )


def _last_lines(said: str) -> str:
    """Return the end of its messages, without those about its progress."""
    lines = [
        line
        for line in map(str.rstrip, re.split(r"[\r\n]+", said))
        if line and not line.startswith("I: ")
    ]
    return "\n".join(lines[-SHOWN_LINES:])
