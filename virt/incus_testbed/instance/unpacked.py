# SPDX-License-Identifier: GPL-3.0-or-later
"""Notice that Incus has unpacked only a part of an image."""

import contextlib
import logging

from incus_testbed import errors
from incus_testbed.customise.last_file import LastFile
from incus_testbed.incus.client import Incus
from incus_testbed.ownership import lock

log = logging.getLogger(__name__)

#: Seconds for another process that removes it.
_LIMIT = 60.0


def check(incus: Incus, name: str, image: str, last_file: LastFile) -> None:
    """Check that an instance has all files of its image.

    If not, the next launch has Incus unpack the image once more.  ``image`` is
    its fingerprint.  The instance may be stopped, but nothing may have changed
    the file.

    :raises errors.Incomplete: it lacks some
    """
    found = incus.modified(name, f"/{last_file.path}")
    if found in {None, last_file.date}:
        return
    record = incus.instance(name)
    where = record.pool, image, record.member
    advice = "Try again: Incus unpacks the image once more then."
    try:
        with (
            lock.held(f"unpacked image {image}", timeout=_LIMIT),
            contextlib.suppress(errors.NotFound),
        ):
            # Another process may have done it since this instance was made.
            if incus.unpacked(*where) < record.created:
                incus.delete_unpacked(*where)
    except errors.TestbedError as error:
        log.debug("what is unpacked stays: %s", error.brief)
        advice = (
            "On the server, as root: incus storage volume delete"
            f" {record.pool} image/{image}"
        )
    raise errors.Incomplete(
        f"{name} lacks files of its image: Incus was ended while it unpacked"
        " it",
        resolution=advice,
    )
