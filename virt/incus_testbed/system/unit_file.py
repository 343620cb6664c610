# SPDX-License-Identifier: GPL-3.0-or-later
"""Read from a systemd unit file how the unit is enabled."""

import re
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Install:
    """The [Install] section of a unit file."""

    wanted_by: tuple[str, ...] = ()
    alias: tuple[str, ...] = ()
    also: tuple[str, ...] = ()


def install(text: str) -> Install:
    """Read a unit file's [Install] section; continued lines aren't handled.

    The units that are read here have none.
    """
    section = re.search(r"(?ms)^\[Install\]$(.*?)(?=^\[|\Z)", text)
    lines = section[1] if section else ""

    def words(key: str) -> tuple[str, ...]:
        return tuple(
            word
            for value in re.findall(rf"(?m)^{key}[ \t]*=(.*)$", lines)
            for word in value.split()
        )

    return Install(
        wanted_by=words("WantedBy"), alias=words("Alias"), also=words("Also")
    )
