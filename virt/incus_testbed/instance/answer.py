# SPDX-License-Identifier: GPL-3.0-or-later
"""Check a guest's answers: each must have the form that its question expects.

The root user of a guest can make it answer anything.
"""

import re

from incus_testbed import errors
from incus_testbed.errors import printable

#: The largest uid; the next number means "none" (Linux, setresuid(2)).
LARGEST_UID = (1 << 32) - 2
LARGEST_STATUS = 255
LARGEST_SIGNAL = 64
#: Linux's MAX_ERRNO.
LARGEST_ERRNO = 4095

# Names that adduser makes; useradd allows at most 32 characters.
_USER = re.compile(r"[a-z_][a-z0-9_.-]{0,31}")
_BOOT = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_SHELL = re.compile(r"bash|sh")
_STATE = re.compile(r"[a-z-]{1,32}")
# Unit names of systemd.unit(5).
_UNIT = re.compile(r"[A-Za-z0-9:_.\\@-]{1,255}")
_UNITS = 100
# As many as last_file.PATHS.
_DATES = re.compile(r"[0-9]{1,12}( [0-9]{1,12})?", re.ASCII)
# A path has less than 4096 bytes (PATH_MAX).
_PATH = re.compile(r"/[^\x00-\x1f\x7f]{1,4094}")
_NUMBER = re.compile(r"[0-9]{1,10}")
_SHOWN = 100


def user(text: str) -> str:
    """Return the text if it is a user's name, otherwise an empty string."""
    return text if _USER.fullmatch(text) else ""


def boot(text: str) -> str:
    """Return the text if it is a boot id, otherwise an empty string."""
    return text if _BOOT.fullmatch(text) else ""


def shell(text: str) -> str:
    """Return the name of a shell: sh, which every guest has, or bash."""
    return text if _SHELL.fullmatch(text) else "sh"


def state(text: str) -> str:
    """Return a state of the system or network, or "unknown"."""
    return text if _STATE.fullmatch(text) else "unknown"


def units(text: str) -> tuple[str, ...]:
    """Return the valid names of units in a text, at most _UNITS of them."""
    return tuple(filter(_UNIT.fullmatch, text.split()))[:_UNITS]


def dates(text: str) -> tuple[int, ...]:
    """Return the numbers of seconds in a text, if it has nothing else."""
    return tuple(map(int, text.split())) if _DATES.fullmatch(text) else ()


def path(text: str) -> str:
    """Return the text if it is an absolute path, otherwise an empty string."""
    return text if _PATH.fullmatch(text) else ""


def number(text: str, largest: int, what: str) -> int:
    """Return a whole number from 0 to ``largest``; ``what`` names it.

    :raises errors.CommandFailed: it is not a number, or too large
    """
    if _NUMBER.fullmatch(text) and int(text) <= largest:
        return int(text)
    shown = printable(text[:_SHOWN])
    raise errors.CommandFailed(
        f"The guest's answer makes no sense: {shown!r} as {what}",
        details=f"It must be a number from 0 to {largest}.",
    )
