# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that Incus admits the system services that run testbeds."""

import grp
import os
import pwd
from functools import partial
from pathlib import Path

from incus_testbed.host.requirement import (
    Finding,
    Requirement,
    failed,
    good,
    warning,
)

#: The group that incus-user lets in, each to a restricted project; and the one
#: that is as good as root.
GROUP, ADMINS = "incus", "incus-admin"

#: The user of each service that may be on a machine, and its unit.
_SERVICES = {"debusine-worker": "debusine-worker.service"}


def requirements() -> list[Requirement]:
    """Return the requirements of this machine's services."""
    return [
        Requirement(f"user {name}", partial(check, user))
        for name, user in _present().items()
    ]


def units() -> list[str]:
    """Return the units of the services that this machine has."""
    return [_SERVICES[name] for name in _present()]


def unadmitted() -> list[str]:
    """Return the users of services whom Incus does not admit."""
    return [
        name
        for name, user in _present().items()
        if not groups(user) & {GROUP, ADMINS}
    ]


def restart(name: str) -> tuple[tuple[str, ...], ...]:
    """Return the commands that give a user's running service new groups."""
    unit = _SERVICES.get(name)
    if unit is None or not Path("/run/systemd/system").exists():
        return ()
    return (("systemctl", "try-restart", unit),)


def check(user: pwd.struct_passwd) -> Finding:
    """Check whether Incus admits a service's user; Incus has answered."""
    name = user.pw_name
    setup = f"incus-testbed setup --restricted {name}"
    member = groups(user)
    if ADMINS in member:
        return warning(
            f"is in the group {ADMINS}, and so as good as root",
            advice=f"{setup} && {leaving(name)}",
        )
    if GROUP in member:
        return good(f"is in the group {GROUP}")
    if os.geteuid() == user.pw_uid:
        return good("Incus answers it")
    return failed("is not admitted: Incus refuses it", advice=setup)


def leaving(name: str) -> str:
    """Return the commands that take a user out of the group of admins."""
    commands = (("gpasswd", "--delete", name, ADMINS), *restart(name))
    return " && ".join(" ".join(words) for words in commands)


def groups(user: pwd.struct_passwd) -> set[str]:
    """Return those of Incus' groups that a user belongs to."""
    member = set(os.getgrouplist(user.pw_name, user.pw_gid))
    return {name for name in (GROUP, ADMINS) if _number(name) in member}


def _number(name: str) -> int | None:
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def _present() -> dict[str, pwd.struct_passwd]:
    users = {user.pw_name: user for user in pwd.getpwall()}
    return {name: users[name] for name in _SERVICES if name in users}
