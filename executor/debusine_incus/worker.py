# SPDX-License-Identifier: GPL-3.0-or-later
"""Run Debusine's own worker with these executors, and clean up after requests.

    python3 -m debusine_incus.worker [OPTION...]

replaces debusine-worker and takes the same options.  Everything that a work
request leaves in Incus is removed as soon as the request has ended.
Everything that an ended worker leaves is removed when the next one starts.
"""

import functools
import logging
import sys
import threading
from collections.abc import Callable, Collection
from typing import Any

from debusine.tasks import BaseExternalTask
from debusine.worker.__main__ import entry_point

import debusine_incus.register  # noqa: F401 - its import is its effect
from debusine_incus import current_task
from incus_testbed import errors
from incus_testbed.cleanup import garbage
from incus_testbed.incus.client import Incus

log = logging.getLogger(__name__)


def main() -> None:
    """Run the worker; return when it ends."""
    # This name appears in the usage message and in the journal.
    sys.argv[0] = "debusine-worker"
    # In a thread, so that the worker does not wait for Incus at its start.
    threading.Thread(target=clean_up_after_others, daemon=True).start()
    clean_up_after(BaseExternalTask)
    try:
        entry_point()
    finally:
        # A task may still run in a thread, and the interpreter waits for it.
        # The clean-up removes the task's instance, so the task ends.
        clean_up()


def clean_up_after(task: type[Any]) -> None:
    """Make each work request end with a clean-up, in the request's thread.

    This also makes it possible to abort a request while its image is imported.

    A worker runs one request at a time, so everything that the worker owns
    afterwards was left by this request.
    """
    execute = task.execute_logging_exceptions
    is_clean = True

    @functools.wraps(execute)
    def execute_and_clean_up(self: Any) -> Any:
        nonlocal is_clean
        before = _instances() if is_clean else None
        try:
            with current_task.running(self):
                return execute(self)
        finally:
            is_clean = clean_up(before)

    task.execute_logging_exceptions = execute_and_clean_up


def clean_up(before: Collection[str] | None = None) -> bool:
    """Remove everything in Incus that this process or an ended one owns.

    With ``before``, of the instances of ended processes only those are looked
    at that were not there before: what a request's children left is new.
    Returns whether all of it worked.
    """
    done = _attempt(garbage.relinquish)
    if before is None:
        return clean_up_after_others() and done
    return _attempt(functools.partial(_clean_up_since, before)) and done


def _clean_up_since(before: Collection[str], incus: Incus) -> None:
    new = {*incus.instance_names()} - {*before}
    garbage.remove(incus, garbage.orphans(incus, new))


def clean_up_after_others() -> bool:
    """Remove everything in Incus that ended processes own, as clean_up()."""
    return _attempt(garbage.collect)


def _instances() -> list[str] | None:
    """Return the names of all instances; None if they are not known."""
    try:
        return Incus().instance_names()
    except errors.TestbedError:
        return None


def _attempt(removal: Callable[[Incus], object]) -> bool:
    """Run a removal; if it fails, a later one removes the same."""
    try:
        removal(Incus())
    except errors.MissingProgram:
        log.debug("there is no Incus to clean up")
    except errors.TestbedError as error:
        log.warning("Incus could not be cleaned up: %s", error)
        return False
    return True


if __name__ == "__main__":
    main()
