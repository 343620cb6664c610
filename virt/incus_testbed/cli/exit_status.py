# SPDX-License-Identifier: GPL-3.0-or-later
"""Run a command and turn its result, error or signal into an exit status."""

import errno
import signal
from collections.abc import Callable
from typing import NoReturn

from incus_testbed import errors
from incus_testbed.cli import output, streams
from incus_testbed.process import signals

#: What any call can fail with: too few open files, processes, or memory.
_SHORTAGES = (errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOMEM)


def status(
    act: Callable[[], int],
    *,
    failure_status: int = 1,
    program: str = output.PROGRAM,
) -> int:
    """Call ``act`` and return the exit status of the command.

    That is the value that ``act`` returns, or ``failure_status`` after an
    error, which is printed, or 128 + N after signal N.
    """
    signals.catch(_leave, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    try:
        with streams.usable():
            return act()
    except errors.TestbedError as failure:
        output.error(failure, program=program)
        return failure_status
    except BrokenPipeError:
        return 128 + signal.SIGPIPE
    except OSError as failure:
        if failure.errno not in _SHORTAGES:
            raise
        output.error(_short(failure), program=program)
        return failure_status


def _short(failure: OSError) -> errors.TestbedError:
    return errors.TestbedError(
        f"This machine or its limits do not allow that: {failure.strerror}",
        resolution="Try again later, or raise the limit: see 'ulimit -a'.",
    )


def _leave(number: int) -> NoReturn:
    """End the process through all context managers, so that they clean up."""
    raise SystemExit(128 + number)
