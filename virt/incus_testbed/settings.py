# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers that an admin or user sets in the environment."""

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
    """Return the value of a variable; ``usual`` where it is not set.

    :raises errors.Unsupported: it is not a whole number from ``least`` on
    """
    text = environment.get(name, "").strip()
    if not text:
        return usual
    if not re.fullmatch(r"[0-9]{1,18}", text) or int(text) < least:
        raise errors.Unsupported(
            f"{name} is {text!r}, which is not a"
            f"{' positive' if least else ''} whole number",
            resolution=f"Set it to a whole number such as {usual}, or not at"
            " all.",
        )
    return int(text)
