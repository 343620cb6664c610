# SPDX-License-Identifier: GPL-3.0-or-later
"""Read numbers that an admin or user sets in the environment."""

import os
import re
from collections.abc import Mapping

from incus_testbed import errors


def number(
    name: str,
    usual: int,
    environment: Mapping[str, str] = os.environ,
    *,
    least: int = 0,
) -> int:
    """Return the value of a variable, or ``usual`` if it is not set.

    :raises errors.Unsupported: it is not a whole number, or less than ``least``
    """
    text = environment.get(name, "").strip()
    if not text:
        return usual
    if not re.fullmatch(r"[0-9]{1,18}", text) or int(text) < least:
        raise errors.Unsupported(
            f"{name} is {text!r}, which is not a"
            f"{' positive' if least else ''} whole number",
            resolution=f"Set it to a number such as {usual}, or unset it.",
        )
    return int(text)
