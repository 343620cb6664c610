# SPDX-License-Identifier: GPL-3.0-or-later
"""Set up autopkgtest's VirtSubproc, which speaks the protocol and calls hooks.

/usr/share/doc/autopkgtest/README.virtualisation-server describes the protocol.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from typing import TYPE_CHECKING, Protocol

from incus_testbed import errors

if TYPE_CHECKING:
    from incus_testbed.virt_server.copies import Copies

sys.path.insert(0, "/usr/share/autopkgtest/lib")
try:
    import adtlog
    import VirtSubproc
except ImportError:
    sys.exit(
        "autopkgtest-virt-incus-testbed: autopkgtest is not installed\n"
        "  Install it: apt install autopkgtest"
    )


class Hooks(Protocol):
    """The object on which VirtSubproc finds hook_open and the other hooks."""

    def reboot(self) -> None:
        """Reboot the testbed, between the hooks that prepare and wait."""

    def check_member(self) -> None:
        """Check that the member of a cluster that has the testbed answers.

        :raises errors.MemberDown: it does not
        """


def call(hooks: Hooks, *, debug: bool) -> None:
    """Make VirtSubproc call these hooks, and our own reboot and copies."""
    if debug:
        adtlog.verbosity = 2
    VirtSubproc.progname = "autopkgtest-virt-incus-testbed"
    VirtSubproc.caller = hooks
    # It would stop handling signals before it has closed a testbed.
    VirtSubproc.signal_list = []
    VirtSubproc.reboot_testbed = hooks.reboot
    VirtSubproc.copyupdown_internal = partial(
        _copy,
        copydown=VirtSubproc.copyupdown_internal,
        check_member=hooks.check_member,
    )


def greet() -> None:
    """Tell autopkgtest that the server accepts commands."""
    VirtSubproc.ok()


def serve() -> int:
    """Carry out the commands of autopkgtest until there are no more.

    It returns the exit status that the protocol has for the way it ended.
    """
    try:
        VirtSubproc.mainloop()
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def run_commands_by(argv: Sequence[str]) -> None:
    """Set the words that run a command, which follows them, in the testbed."""
    VirtSubproc.auxverb = list(argv)


def complain(message: str) -> None:
    """Print an error in the style of autopkgtest."""
    adtlog.error(message)


@contextlib.contextmanager
def bombing() -> Iterator[None]:
    """Report the errors of this software as the protocol requires."""
    try:
        yield
    except errors.TestbedError as error:
        VirtSubproc.bomb(str(error))


def _copy(
    command: str,
    paths: Sequence[str],
    up: bool,
    *,
    copydown: Callable[[str, Sequence[str], bool], None],
    check_member: Callable[[], None],
) -> None:
    """Copy from one path to another; if it fails, only the copy fails.

    If the member of the cluster is down, the testbed fails.
    """
    try:
        if up:
            _check(command, paths)
            _copy_up(*paths)
        else:
            copydown(command, paths, up)
            here, there = paths
            _copies().put_links_back(
                VirtSubproc.auxverb, here, there, VirtSubproc.copy_timeout
            )
    except VirtSubproc.FailedCmd:
        with bombing():
            check_member()
        raise
    except (OSError, ValueError, errors.TestbedError) as error:
        with bombing():
            check_member()
        adtlog.error(f"{command} failed: {error}")
        raise VirtSubproc.FailedCmd(["copy-failed"]) from error


def _check(command: str, paths: Sequence[str]) -> None:
    """End the server if autopkgtest breaks the protocol."""
    if not VirtSubproc.downtmp:
        VirtSubproc.bomb(f"{command} when not open")
    if not all(paths):
        VirtSubproc.bomb(f"{command} paths must be nonempty")
    if len({path.endswith("/") for path in paths}) > 1:
        VirtSubproc.bomb(f"{command} paths must agree about directoryness")


def _copy_up(there: str, here: str) -> None:
    words = VirtSubproc.auxverb
    if there.endswith("/"):
        for line in _copies().copy_folder(words, there, here, _time_limit):
            adtlog.warning(f"copy to {here}: {line}")
    else:
        _copies().copy_file(words, there, here, _time_limit)


@cache
def _copies() -> "Copies":
    # Imported here, so that the server starts faster.
    from incus_testbed.virt_server.copies import Copies  # noqa: PLC0415

    return Copies()


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    """Let a copy fail if it takes too long."""
    VirtSubproc.timeout_start(VirtSubproc.copy_timeout)
    try:
        yield
    except VirtSubproc.Timeout:
        raise VirtSubproc.FailedCmd(["timeout"]) from None
    finally:
        VirtSubproc.timeout_stop()
