# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers that an admin or user sets in the environment."""

import os
from collections.abc import Mapping

from incus_testbed import errors


def number(
    name: str, usual: int, environment: Mapping[str, str] = os.environ
) -> int:
    """Return the value of a variable; ``usual`` where it is not set.

    :raises errors.Unsupported: the value is not a whole number
    """
    text = environment.get(name, "").strip()
    if not text:
        return usual
    if not (text.isascii() and text.isdigit()):
        raise errors.Unsupported(
            f"{name} is {text!r}, which is no number",
            resolution=f"Set it to a whole number such as {usual}, or not at"
            " all.",
        )
    return int(text)
