# SPDX-License-Identifier: GPL-3.0-or-later
"""autopkgtest's own VirtSubproc, which speaks the protocol and calls the hooks.

The protocol: /usr/share/doc/autopkgtest/README.virtualisation-server.
"""

import contextlib
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from incus_testbed import errors

sys.path.insert(0, "/usr/share/autopkgtest/lib")
try:
    import adtlog
    import VirtSubproc
except ImportError:
    sys.exit(
        "autopkgtest-virt-incus-testbed: autopkgtest is not installed\n"
        "  Install it: apt install autopkgtest"
    )

#: autopkgtest takes 255 for a failure of the server, so a test's becomes 253.
TESTBED_FAILURE = 255
STATUS_FOR_255 = 253

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
    VirtSubproc.copyupdown_internal = _copying_or_failing(
        VirtSubproc.copyupdown_internal
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


def _copying_or_failing(
    copy: Callable[[str, list[str], bool], None],
) -> Callable[[str, list[str], bool], None]:
    """Have a path that can't be used fail the copy, not the server."""

    def copy_or_fail(command: str, paths: list[str], up: bool) -> None:
        try:
            copy(command, paths, up)
        except (OSError, ValueError) as error:
            adtlog.error(f"{command} failed: {error}")
            raise VirtSubproc.FailedCmd(["copy-failed"]) from error

    return copy_or_fail
