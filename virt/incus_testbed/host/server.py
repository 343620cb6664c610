# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that the Incus server answers, trusts this user, and is new enough."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from incus_testbed import errors
from incus_testbed.host.requirement import Finding, failed, good, warning
from incus_testbed.image import unpacking
from incus_testbed.incus.client import Incus
from incus_testbed.process import programs

#: The first version with every feature that is used here; and the first that
#: does not drop an 'incus exec' after a long time without output.
_NEEDED = (6, 0)
_SOUND = (6, 0, 3)
_INSTALL = "apt install incus; in Debian 12: incus/bookworm-backports"
#: The socket starts Incus on demand, the service starts it at once.
_UNITS = ("incus.socket", "incus.service")


def check(incus: Incus) -> Finding:
    """Ask the server for its version, and whether it trusts this user."""
    try:
        server = incus.server()
    except errors.DaemonDown as error:
        advice = _start_advice() if incus.is_local() else error.resolution
        return failed(error.brief, advice)
    except errors.Denied as error:
        user = os.environ.get("USER", "USER")
        return failed(
            error.brief,
            f"As root: incus-testbed setup --restricted {user}; then log in"
            " again",
        )
    except errors.TestbedError as error:
        return failed(error.brief, error.resolution)
    if server["auth"] != "trusted":
        return failed(
            "it does not trust this client",
            "incus config trust add NAME there, then incus remote add here",
        )
    return _of_version(server["environment"]["server_version"])


def drivers(incus: Incus) -> list[str]:
    """Return the drivers that work on the server: lxc, qemu."""
    return drivers_of(incus.server()["environment"])


def drivers_of(environment: Mapping[str, Any]) -> list[str]:
    """Return the drivers of a server that says this of itself."""
    return [word.strip() for word in str(environment["driver"]).split("|")]


def check_unpacking(incus: Incus) -> Finding:
    """Check that the server has the programs for the images that we import."""
    missing = unpacking.lacking(incus)
    if missing:
        return warning(
            f"the server lacks {' and '.join(missing)}: images are compressed"
            " in a slower way",
            advice=unpacking.remedy(missing),
        )
    return good("the server has what we compress images for")


def _of_version(text: str) -> Finding:
    version = tuple(int(number) for number in re.findall(r"\d+", text))
    if version < _NEEDED:
        return failed(f"version {text} is too old", _INSTALL)
    if version < _SOUND:
        return warning(
            f"version {text} drops a command that prints nothing for long",
            advice=_INSTALL,
        )
    return good(f"version {text}")


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
    """Return systemd's state of a unit's file: loaded, not-found, masked."""
    argv = ("systemctl", "show", "--property=LoadState", "--value", unit)
    return programs.run(argv, timeout=10).stdout.decode().strip()
