# SPDX-License-Identifier: GPL-3.0-or-later
"""autopkgtest's own VirtSubproc, which speaks the protocol and calls the hooks.

The protocol: /usr/share/doc/autopkgtest/README.virtualisation-server.
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

_SCRATCH = (
    "d=$(/bin/mktemp --directory --tmpdir autopkgtest.XXXXXX);"
    ' /bin/chmod 777 "$d"; echo "$d"'
)


class Hooks(Protocol):
    """What VirtSubproc finds hook_open and the others on."""

    def reboot(self) -> None:
        """Have the testbed reboot, between hooks that prepare and wait."""


def call(hooks: Hooks, *, debug: bool) -> None:
    """Have VirtSubproc call these, but for what is done better here."""
    if debug:
        adtlog.verbosity = 2
    VirtSubproc.progname = "autopkgtest-virt-incus-testbed"
    VirtSubproc.caller = hooks
    # It would let go of signals before it has closed a testbed.
    VirtSubproc.signal_list = []
    VirtSubproc.reboot_testbed = hooks.reboot
    VirtSubproc.copyupdown_internal = partial(
        _copy,
        copydown=VirtSubproc.copyupdown_internal,
    )


def greet() -> None:
    """Tell autopkgtest that commands can come."""
    VirtSubproc.ok()


def serve() -> None:
    """Do what autopkgtest says, until it says no more."""
    VirtSubproc.mainloop()


def run_commands_by(argv: Sequence[str]) -> None:
    """Have the words that follow these run in the testbed."""
    VirtSubproc.auxverb = list(argv)


def make_scratch(capabilities: list[str], path: str | None) -> str:
    """Make the scratch directory, at ``path`` if that is given.

    It is open to all: who is in the testbed belongs to it.
    """
    if path:
        made: str = VirtSubproc.downtmp_mktemp(capabilities, path, None)
    else:
        # As there, but in one command instead of two.
        made = VirtSubproc.check_exec(
            ["/bin/sh", "-ec", _SCRATCH], downp=True, outp=True
        )
    return made


def complain(message: str) -> None:
    """Say something as autopkgtest says its errors."""
    adtlog.error(message)


@contextlib.contextmanager
def bombing() -> Iterator[None]:
    """Report this software's errors the way the protocol wants it."""
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
) -> None:
    """Copy from a path to another one; a failure is the copy's alone."""
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
    except (OSError, ValueError, errors.TestbedError) as error:
        adtlog.error(f"{command} failed: {error}")
        raise VirtSubproc.FailedCmd(["copy-failed"]) from error


def _check(command: str, paths: Sequence[str]) -> None:
    """Give up on autopkgtest where it breaks the protocol."""
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
    # Here, because a server that starts has no time for it.
    from incus_testbed.virt_server.copies import Copies  # noqa: PLC0415

    return Copies()


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    """Have a copy fail that takes too long."""
    VirtSubproc.timeout_start(VirtSubproc.copy_timeout)
    try:
        yield
    except VirtSubproc.Timeout:
        raise VirtSubproc.FailedCmd(["timeout"]) from None
    finally:
        VirtSubproc.timeout_stop()
