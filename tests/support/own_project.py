# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a program of the tests in an Incus project of its own."""

import os
import signal
import sys
from collections.abc import Callable

from incus_testbed import errors
from tests.support import daemon, images, kernel_limits
from tests.support.sandbox import sandbox


def status(act: Callable[[], int], *failures: type[Exception]) -> int:
    """Return what ``act`` returns: an exit status.

    Meanwhile the environment aims at a project of this process, and the kernel
    lets many guests run.  If there can be none, if a testbed fails, or if one
    of ``failures`` is raised, that is printed, and the status is 1.
    """
    signal.signal(signal.SIGTERM, daemon.on_sigterm)
    expected: tuple[type[Exception], ...] = (
        daemon.DaemonError,
        images.ImageError,
        errors.TestbedError,
        *failures,
    )
    try:
        with daemon.running() as incus:
            os.environ.update(incus.environment)
            with sandbox(str(os.getpid())) as mine:
                os.environ["INCUS_PROJECT"] = mine.project
                with kernel_limits.for_many():
                    return act()
    except expected as error:
        print(error, getattr(error, "details", ""), file=sys.stderr)
        return 1
