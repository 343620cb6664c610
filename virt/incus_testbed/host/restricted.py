# SPDX-License-Identifier: GPL-3.0-or-later
"""Tell what a restricted project allows, and what belongs to its admin.

Incus gives such a project to each member of the group incus, through the
daemon incus-user.  The user may not see or change networks, pools and other
projects.
"""

from incus_testbed import errors
from incus_testbed.host import pool, profile
from incus_testbed.host.requirement import Finding, failed, good
from incus_testbed.incus.client import Incus

#: The profile in which the admin has named the project's network and pool.
PROFILE = "default"


def is_confined(incus: Incus) -> bool:
    """Tell whether Incus keeps this user to a project.

    Incus 6.0 refuses to list pools then.  Incus 7 lists them, and networks,
    without what is needed of them.  incus-user comes to it with a certificate,
    where an admin's requests come by the socket itself.
    """
    try:
        incus.pools()
        method = incus.server().get("auth_user_method")
    except errors.Restricted:
        return True
    except errors.TestbedError:
        return False
    return incus.is_local() and method == "tls"


def is_restricted(incus: Incus) -> bool:
    """Tell whether the project is a restricted one."""
    return _config(incus).get("restricted") == "true"


def forbids_raw(incus: Incus) -> bool:
    """Tell whether the project forbids settings of LXC itself: raw.lxc."""
    allowed = _config(incus).get("restricted.containers.lowlevel") == "allow"
    return is_restricted(incus) and not allowed


def check(incus: Incus, network: str, pool_name: str) -> Finding:
    """Check that the admin has given the project a network and a pool."""
    project = incus.current_project()
    devices = profile.devices_of(incus, PROFILE)
    if not profile.network_of(devices) or not profile.pool_of(devices):
        return failed(
            f"the profile {PROFILE} of the project {project} has no network"
            " or no root disk",
            advice="As root: incus-testbed setup --restricted USER",
        )
    return pool.short(incus, pool_name) or good(
        f"you use the project {project}; its network {network} and its storage"
        f" pool {pool_name} belong to its admin"
    )


def _config(incus: Incus) -> dict[str, str]:
    try:
        return incus.project_config()
    except errors.TestbedError:
        return {}
