# SPDX-License-Identifier: GPL-3.0-or-later
"""Adapt sysvinit's inittab to a container."""

import re

from incus_testbed.customise.last_file import INITTAB
from incus_testbed.system.entry import Entry
from incus_testbed.system.facts import Facts

#: A login on a virtual terminal.  A container has no such terminals, so init
#: would start the login again and again.
_LOGIN = re.compile(r"\S*getty\b")
_TERMINAL = re.compile(r"\btty\d+\b")

#: The actions for SIGPWR, the signal with which Incus asks an init other than
#: systemd to stop.
_POWER_FAILURE = {"powerwait", "powerfail"}
_STOP = "pf::powerwait:/sbin/shutdown -h now"


def inittab(facts: Facts) -> Entry:
    """Return an inittab that stops on request and has no terminals."""
    kept = [
        line for line in facts.inittab.splitlines() if not _is_dropped(line)
    ]
    return Entry(
        path=INITTAB,
        kind="file",
        content="".join(f"{line}\n" for line in (*kept, _STOP)).encode(),
    )


def _is_dropped(line: str) -> bool:
    """Tell whether to drop a line of the image's own inittab."""
    _, _, action, program = [*line.split(":", 3), "", "", ""][:4]
    if action != "respawn":
        return action in _POWER_FAILURE
    login = _LOGIN.match(program)
    return bool(login and _TERMINAL.search(program, login.end()))
