# SPDX-License-Identifier: GPL-3.0-or-later
"""The program that autopkgtest calls for each command in a testbed.

For autopkgtest, status 255 says that the testbed has failed.  Only this module
knows that: where a command ends with 255 this program ends with 253, and with
255 where a command could not be run.  The exception is a server that is not
reached directly: incus exec has the status 1 for commands that it can't run.

Commands run in children of a forkserver, if that is there, and else in this
process.  It imports little, for the reason that the package exec has.
"""

import os
import sys

from incus_testbed.incus.exec import forked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

_TESTBED_FAILURE = 255
_STATUS_FOR_255 = 253
_OPTION = "--forkserver="

# pathlib would take longer to import than all the rest.
_VIRT = os.path.abspath(f"{__file__}/../../..")  # noqa: PTH100


#: This module as a program, which imports little; the words that
#: Incus.exec_argv() says follow.
PROGRAM = (
    *(sys.executable, "-I", "-S", "-c"),
    f"import sys; sys.path.append({_VIRT!r});"
    " from incus_testbed.virt_server import command; command.main()",
)


def program(forkserver: str) -> tuple[str, ...]:
    """Return PROGRAM for where a forkserver of this name may be running."""
    return (*PROGRAM, f"{_OPTION}{forkserver}")


def main() -> None:
    """Run the command that the command line asks for; never return."""
    argv = sys.argv[1:]
    forkserver = ""
    if argv[0].startswith(_OPTION):
        forkserver = argv.pop(0).removeprefix(_OPTION)
    status = _outcome(argv, forkserver)
    if status is None:
        status = _TESTBED_FAILURE
    elif status == _TESTBED_FAILURE:
        status = _STATUS_FOR_255
    os._exit(status)


def _outcome(argv: "Sequence[str]", forkserver: str) -> int | None:
    """Run a command; return its status, or None as program.outcome()."""
    if argv[0] == "incus":
        return _by_incus(argv)
    if forkserver:
        try:
            return forked.outcome(forkserver, argv)
        except forked.Absent:
            pass
    # Imported here: it takes as long as a forkserver needs for all the rest.
    from incus_testbed.incus.exec import program as session  # noqa: PLC0415

    return session.outcome(argv)


def _by_incus(argv: "Sequence[str]") -> int:
    """Run incus exec, which gets the signals that come; return its status."""
    # If this process is killed, so is incus.
    words = ["setpriv", "--pdeathsig", "KILL", "--", *argv]
    child = os.posix_spawnp(words[0], words, os.environ)
    forked.on_signals(lambda number, _: os.kill(child, number))
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return status if status >= 0 else 128 - status
