# SPDX-License-Identifier: GPL-3.0-or-later
"""Images as this software imports them, without a conversion."""

import tempfile
import time
from pathlib import Path

from incus_testbed.image import profiles, properties
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import Image
from incus_testbed.ownership.owner import Owner
from tests.support import tiny_guest

_OWNER = "incus-testbed.owner"


def unnamed(
    incus: Incus,
    alias: str,
    *,
    source: str = "0" * 64,
    owner: Owner | None = None,
    evictable: bool = True,
    unpacked: int = 0,
    ours: bool = True,
) -> Image:
    """Import an image for an alias, and leave it without a name.

    ``source`` is the SHA-256 of its file, ``owner`` the process that imports
    it: this one by default.  Without ``ours`` it is a copy by incus publish.
    """
    date = int(time.time())
    facts = properties.properties(
        alias,
        source=source,
        date=date,
        evictable=evictable,
        unpacked=unpacked,
    )
    if owner:
        facts[_OWNER] = str(owner)
    with tempfile.TemporaryDirectory() as folder:
        files = tiny_guest.write(
            Path(folder),
            alias,
            properties=facts,
            date=date if ours else date - 1,
        )
        fingerprint = incus.import_image(*files)
    incus.set_image_profiles(incus.image(fingerprint), [profiles.USUAL])
    return incus.image(fingerprint)


def named(
    incus: Incus,
    alias: str,
    *,
    source: str = "0" * 64,
    evictable: bool = True,
    unpacked: int = 0,
    ours: bool = True,
) -> Image:
    """Import an image under an alias."""
    made = unnamed(
        incus,
        alias,
        source=source,
        evictable=evictable,
        unpacked=unpacked,
        ours=ours,
    )
    incus.create_alias(alias, made.fingerprint)
    return incus.image(alias)
