# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that Incus grants access to the system services that run testbeds."""

import grp
import os
import pwd
from functools import partial
from pathlib import Path

from incus_testbed.host.requirement import Finding, Requirement, failed, good

#: The user of each service that may be on a machine, and its unit.
_SERVICES = {"debusine-worker": "debusine-worker.service"}
_GROUP = "incus-admin"


def requirements() -> list[Requirement]:
    """Return the requirements of this machine's services."""
    present = {user.pw_name: user for user in pwd.getpwall()}
    return [
        Requirement(f"user {name}", partial(check, present[name], unit))
        for name, unit in _SERVICES.items()
        if name in present
    ]


def units() -> list[str]:
    """Return the units of the services that this machine has."""
    present = {user.pw_name for user in pwd.getpwall()}
    return [unit for name, unit in _SERVICES.items() if name in present]


def check(user: pwd.struct_passwd, unit: str) -> Finding:
    """Check whether Incus accepts a service's user; Incus has answered."""
    if os.geteuid() == user.pw_uid:
        return good("Incus answers it")
    if _is_member(user):
        return good(f"is in the group {_GROUP}")
    fix = [("adduser", user.pw_name, _GROUP)]
    if Path("/run/systemd/system").exists():
        # A running service does not get its user's new groups.
        fix.append(("systemctl", "try-restart", unit))
    return failed(
        f"is not in the group {_GROUP}: Incus refuses it",
        fix=tuple(fix),
    )


def _is_member(user: pwd.struct_passwd) -> bool:
    try:
        group = grp.getgrnam(_GROUP)
    except KeyError:
        return False
    return group.gr_gid in os.getgrouplist(user.pw_name, user.pw_gid)
