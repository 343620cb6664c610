# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the virt server as a program, and clean up if a signal ends it."""

import argparse
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, NoReturn

from incus_testbed import errors
from incus_testbed.cli import network, output, place
from incus_testbed.incus.client import Incus
from incus_testbed.process import signals
from incus_testbed.virt_server import protocol
from incus_testbed.virt_server.arguments import parse
from incus_testbed.virt_server.forkserver import Forkserver
from incus_testbed.virt_server.testbed import Testbed

if TYPE_CHECKING:
    from incus_testbed.refresh.warm import SetUp

_PROGRAM = "autopkgtest-virt-incus-testbed"
_SIGNALS = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGPIPE)


class _Interrupted(BaseException):
    """A signal told this process to end; ``args`` holds its number."""


def main(
    argv: Sequence[str] | None = None, *, forkserver: Forkserver
) -> NoReturn:
    """Serve one run of autopkgtest; its commands run in the forkserver."""
    arguments = parse(argv)
    output.configure(2 if arguments.debug else 0)
    try:
        incus = place.client(arguments, "image")
    except errors.TestbedError as failure:
        output.error(failure, program=_PROGRAM)
        sys.exit(1)
    _keep_to(incus)
    testbed = Testbed(
        incus,
        arguments.image,
        name=arguments.name,
        delete_existing=arguments.delete_existing,
        network=network.is_wanted(arguments),
        max_age=arguments.max_age,
        set_up=_set_up(arguments),
        forkserver=forkserver.name,
        arguments=arguments.launch_arguments,
    )
    protocol.call(testbed, debug=arguments.debug)
    status, interrupted = 0, None
    try:
        protocol.greet()
        # Python ignores SIGPIPE by itself; our caller did not want that.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        signals.catch(_interrupt, *_SIGNALS)
        status = protocol.serve()
    except _Interrupted as caught:
        (interrupted,) = caught.args
    finally:
        # VirtSubproc cleans up an open testbed, but not one being opened.
        _ignore_signals()
        try:
            testbed.remove()
        except errors.TestbedError as failure:
            output.error(failure)
        forkserver.close()
    if interrupted:
        # End by the signal, as if it had not been caught.
        signal.signal(interrupted, signal.SIG_DFL)
        os.kill(os.getpid(), interrupted)
    # At once: all replies and messages are out, and Python would take 8 ms of
    # the processor to clear its memory.
    os._exit(status)


def _set_up(arguments: argparse.Namespace) -> "SetUp | None":
    """Return what is done once in a warm base, if one is wanted."""
    if not arguments.warm and not arguments.warm_commands:
        return None
    # Imported here, so that others start faster.
    from incus_testbed.refresh.warm import SetUp  # noqa: PLC0415

    return SetUp(
        upgrade=bool(arguments.warm), commands=arguments.warm_commands or ()
    )


def _interrupt(number: int) -> NoReturn:
    _ignore_signals()
    raise _Interrupted(number)


def _ignore_signals() -> None:
    """Ignore the signals, so that they don't interrupt the clean-up."""
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _keep_to(incus: Incus) -> None:
    """Keep the current remote and project, also for processes started here.

    The user may switch to others while the testbed is in use.
    """
    choice = incus.choice()
    os.environ["INCUS_REMOTE"] = choice.remote
    os.environ["INCUS_PROJECT"] = choice.project
