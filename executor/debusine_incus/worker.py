# SPDX-License-Identifier: GPL-3.0-or-later
"""Debusine's own worker, with these executors and clean after each request.

    python3 -m debusine_incus.worker [OPTION...]

takes the place of debusine-worker and its options.  What a worker that is
gone left in Incus is removed when the next one starts; what a work request
left, as soon as it has ended.
"""

import functools
import logging
import sys
import threading
from collections.abc import Callable
from typing import Any

from debusine.tasks import BaseExternalTask
from debusine.worker.__main__ import entry_point

import debusine_incus.register  # noqa: F401 - its import is its effect
from debusine_incus import current_task
from incus_testbed import collect, errors
from incus_testbed.client import Incus

log = logging.getLogger(__name__)


def main() -> None:
    """Run the worker; return when it ends."""
    # Its usage message and its journal have it for a name.
    sys.argv[0] = "debusine-worker"
    # Its start need not wait for Incus, which may not even be up.
    threading.Thread(target=clean_up_after_others, daemon=True).start()
    clean_up_after(BaseExternalTask)
    try:
        entry_point()
    finally:
        # A task may still run, in a thread that the interpreter waits for:
        # without its instance it ends.
        clean_up()


def clean_up_after(task: type[Any]) -> None:
    """Have each work request followed by a clean-up, in its own thread.

    It can be aborted while its image is imported, too.

    A worker runs one at a time, so that whatever it owns afterwards was left
    behind by this one.
    """
    execute = task.execute_logging_exceptions

    @functools.wraps(execute)
    def execute_and_clean_up(self: Any) -> Any:
        try:
            with current_task.running(self):
                return execute(self)
        finally:
            clean_up()

    task.execute_logging_exceptions = execute_and_clean_up


def clean_up() -> None:
    """Remove what this process, and any that is gone, owns in Incus."""
    _attempt(collect.relinquish)
    clean_up_after_others()


def clean_up_after_others() -> None:
    """Remove what processes that are gone own in Incus."""
    _attempt(collect.collect)


def _attempt(removal: Callable[[Incus], object]) -> None:
    """Remove something; what can't be now is removed another time."""
    try:
        removal(Incus())
    except errors.MissingProgram:
        log.debug("there is no Incus to clean up")
    except errors.TestbedError as error:
        log.warning("Incus is not cleaned up: %s", error)


if __name__ == "__main__":
    main()
