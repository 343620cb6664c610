# SPDX-License-Identifier: GPL-3.0-or-later
"""How a command ends: by itself, by an error of its user's, by a signal."""

import os
import signal
import sys
from collections.abc import Callable
from typing import NoReturn

from incus_testbed import errors, reporting, signals


def status(
    act: Callable[[], int],
    *,
    failure_status: int = 1,
    program: str = reporting.PROGRAM,
) -> int:
    """Do what a command is for and return the exit status.

    That is what ``act`` returns, ``failure_status`` after an error, which is
    printed, or 128 + N after signal N.
    """
    signals.catch(_leave, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    try:
        result = act()
        sys.stdout.flush()
    except errors.TestbedError as failure:
        reporting.error(failure, program=program)
        return failure_status
    except BrokenPipeError:
        # The reader has left; Python must not complain of it at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return result


def _leave(number: int) -> NoReturn:
    """Leave through all context managers, which clean up."""
    raise SystemExit(128 + number)
