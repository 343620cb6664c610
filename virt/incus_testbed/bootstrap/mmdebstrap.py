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
from incus_testbed.process import programs

_PROGRAM = "mmdebstrap"

#: Seconds to try the namespaces; to end and remove the temporary folder.
_TRIAL_LIMIT = 60.0
_CLEANUP_LIMIT = 120.0

#: Lines and bytes of its messages that an error shows.
_SHOWN_LINES = 15
_SHOWN_BYTES = 1 << 13


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
            yield Bootstrap(child, messages)


class Bootstrap:
    """The tarball of a mmdebstrap that runs."""

    def __init__(
        self, child: "subprocess.Popen[bytes]", messages: IO[bytes]
    ) -> None:
        """Take the process, and the file that it writes messages to."""
        assert child.stdout  # noqa: S101
        self._child = child
        self._stdout = child.stdout
        self._messages = messages

    def read(self, size: int, /) -> bytes:
        """Return up to size bytes; none after mmdebstrap's success only.

        :raises errors.CommandFailed: mmdebstrap failed
        :raises errors.TimedOut: it does not end
        """
        if data := os.read(self._stdout.fileno(), size):
            return data
        self.finish()
        return b""

    def finish(self) -> None:
        """Wait for its success when its tarball was read to the end.

        :raises errors.CommandFailed: mmdebstrap failed
        :raises errors.TimedOut: it does not end
        """
        try:
            status = self._child.wait(_CLEANUP_LIMIT)
        except subprocess.TimeoutExpired:
            raise errors.TimedOut(
                "mmdebstrap has sent its tarball, and does not end",
                details=_last_lines(self._said()),
            ) from None
        if status:
            raise self._failure(status)

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
        said = re.findall(r"(?m)^I: (.*)\.\.\.$", self._said())
        return said[-1] if said else ""

    def _failure(self, status: int) -> errors.CommandFailed:
        said = self._said()
        resolution = ""
        if "does not have a Release file" in said:
            resolution = (
                "See which suites the mirror has, in its folder dists/, or"
                " name another with --mirror."
            )
        return errors.CommandFailed(
            f"mmdebstrap failed with status {status}",
            details=_last_lines(said),
            resolution=resolution,
        )

    def _said(self) -> str:
        descriptor = self._messages.fileno()
        size = os.fstat(descriptor).st_size
        start = max(0, size - _SHOWN_BYTES)
        return os.pread(descriptor, _SHOWN_BYTES, start).decode(
            errors="replace"
        )


def _last_lines(said: str) -> str:
    """Return the end of its messages, without those about its progress."""
    lines = [
        line
        for line in map(str.rstrip, re.split(r"[\r\n]+", said))
        if line and not line.startswith("I: ")
    ]
    return "\n".join(lines[-_SHOWN_LINES:])
