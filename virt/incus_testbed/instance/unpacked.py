# SPDX-License-Identifier: GPL-3.0-or-later
"""Notice that Incus has unpacked only a part of an image."""

import contextlib
import logging

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.instance.plan import Plan
from incus_testbed.ownership import lock

log = logging.getLogger(__name__)

#: Seconds for another process that removes it.
_LIMIT = 60.0


def check(incus: Incus, name: str, plan: Plan) -> None:
    """Check that an instance has all files of its image, if it is there.

    If not, the next launch has Incus unpack the image once more.  The instance
    may be stopped, but nothing may have changed the image's last file.

    :raises errors.Incomplete: it lacks some
    """
    last = plan.last_file
    found = incus.modified(name, f"/{last.path}") if last else None
    if not last or found in {None, last.date}:
        return
    try:
        record = incus.instance(name)
    except errors.NotFound:
        return
    where = record.pool, plan.fingerprint, record.member
    advice = "Try again: Incus unpacks the image once more then."
    try:
        with (
            lock.held(f"unpacked image {plan.fingerprint}", timeout=_LIMIT),
            contextlib.suppress(errors.NotFound),
        ):
            # Another process may have done it since this instance was made.
            if incus.unpacked(*where) < record.created:
                incus.delete_unpacked(*where)
    except errors.TestbedError as error:
        log.debug("what is unpacked stays: %s", error.brief)
        advice = (
            "On the server, as root: incus storage volume delete"
            f" {record.pool} image/{plan.fingerprint}"
        )
    raise errors.Incomplete(
        f"{name} lacks files of its image: Incus was ended while it unpacked"
        " it",
        resolution=advice,
    )
