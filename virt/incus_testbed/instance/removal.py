# SPDX-License-Identifier: GPL-3.0-or-later
"""Delete an instance, also one that is stopping just now."""

import logging
import time

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.ownership import holdings

log = logging.getLogger(__name__)

#: Seconds for Incus to remove an instance that is stopping.
_LIMIT = 30.0


def delete(incus: Incus, name: str) -> None:
    """Delete an instance; it is not an error if it is gone."""
    _delete(incus, name)
    holdings.forget(holdings.Kind.INSTANCE, name)


def _delete(incus: Incus, name: str) -> None:
    deadline = time.monotonic() + _LIMIT
    while True:
        try:
            incus.delete(name)
        except errors.NotFound:
            return
        except (
            errors.Busy,
            errors.NotRunning,
            errors.CommandFailed,
        ) as error:
            # Incus is just removing an ephemeral instance that stops, by
            # itself or because another process stops it.
            log.debug("%s is not removed yet: %s", name, error)
            if time.monotonic() > deadline:
                raise
            time.sleep(0.25)
        else:
            return
