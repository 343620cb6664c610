# SPDX-License-Identifier: GPL-3.0-or-later
"""The age of images, as users write it and read it."""

import re
from datetime import UTC, datetime, timedelta

from incus_testbed import errors
from incus_testbed.incus.records import Image

_UNITS = {
    "d": timedelta(days=1),
    "h": timedelta(hours=1),
    "m": timedelta(minutes=1),
}


def parse(text: str) -> timedelta:
    """Read an age such as 1d, 12h or 30m.

    :raises errors.TestbedError: it is not one
    """
    found = re.fullmatch(r"([0-9]{1,5})([dhm])", text)
    if not found:
        raise errors.TestbedError(
            f"{text!r} is not an age",
            resolution="Use days, hours or minutes, such as 1d, 12h or 30m",
        )
    return int(found[1]) * _UNITS[found[2]]


def of(image: Image) -> timedelta:
    """Return the time since an image was made, imported or refreshed."""
    return datetime.now(UTC) - image.created


def text(age: timedelta) -> str:
    """Return an age in its largest unit: 3 d, 12 h or 5 m."""
    for unit, size in _UNITS.items():
        if age >= size:
            return f"{age // size} {unit}"
    return "0 m"
