# SPDX-License-Identifier: GPL-3.0-or-later
"""The Incus server: it answers, trusts this user, and is new enough."""

import os
import re
from pathlib import Path

from incus_testbed import errors, process
from incus_testbed.client import Incus
from incus_testbed.host.requirement import Finding, State, good

#: The first version with all that is used here, and the first that does not
#: drop a long quiet 'incus exec'.
_NEEDED = (6, 0)
_SOUND = (6, 0, 3)
_INSTALL = "apt install incus; in Debian 12: incus/bookworm-backports"
#: The second is what starts it; the first, what makes it start at need.
_UNITS = ("incus.socket", "incus.service")


def check(incus: Incus) -> Finding:
    """Ask the server who it is."""
    try:
        server = incus.server()
    except errors.DaemonDown as error:
        return _failed(error.brief, _start_advice())
    except errors.Denied as error:
        user = os.environ.get("USER", "USER")
        return _failed(
            error.brief,
            f"As root: adduser {user} incus-admin; then log in again",
        )
    except errors.TestbedError as error:
        return _failed(error.brief, error.resolution)
    if server["auth"] != "trusted":
        return _failed(
            "it does not trust this client",
            "incus config trust add NAME there, then incus remote add here",
        )
    return _of_version(server["environment"]["server_version"])


def drivers(incus: Incus) -> list[str]:
    """Return the drivers that work on the server: lxc, qemu."""
    text = str(incus.server()["environment"]["driver"])
    return [driver.strip() for driver in text.split("|")]


def _of_version(text: str) -> Finding:
    version = tuple(int(number) for number in re.findall(r"\d+", text))
    if version < _NEEDED:
        return _failed(f"version {text} is too old", _INSTALL)
    if version < _SOUND:
        return Finding(
            state=State.WARNING,
            detail=f"version {text} drops a command that is long quiet",
            advice=_INSTALL,
        )
    return good(f"version {text}")


def _failed(detail: str, advice: str) -> Finding:
    return Finding(state=State.FAILED, detail=detail, advice=advice)


def _start_advice() -> str:
    if not Path("/run/systemd/system").exists():
        return "Start incusd; this machine has no systemd to do it"
    units = " ".join(_UNITS)
    start = f"systemctl start {units}"
    return {
        "not-found": _INSTALL,
        "masked": f"systemctl unmask {units} && {start}",
    }.get(_load_state(_UNITS[-1]), start)


def _load_state(unit: str) -> str:
    """Return what systemd knows of a unit: loaded, not-found, masked."""
    argv = ("systemctl", "show", "--property=LoadState", "--value", unit)
    return process.run(argv, timeout=10).stdout.decode().strip()
