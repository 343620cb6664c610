# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the project that incus-user has made for a user.

Both checks are made with the rights of an admin.  incus-user allows more than
testbeds need.
"""

from incus_testbed import errors
from incus_testbed.host import profile, restricted
from incus_testbed.host.devices import change
from incus_testbed.host.requirement import Finding, failed, good
from incus_testbed.incus.client import Incus

#: What the project allows, beside its network.  The defaults of the other
#: restrictions forbid: privileged containers, raw settings, devices of the
#: host.  No value is for what incus-user allows, and testbeds don't need.
_RESTRICTIONS = {
    "restricted": "true",
    "restricted.containers.nesting": "allow",
    "restricted.devices.disk": "managed",
    "restricted.devices.disk.paths": "",
    "restricted.devices.gpu": "",
    "restricted.idmap.gid": "",
    "restricted.idmap.uid": "",
}
_NETWORKS = "restricted.networks.access"
#: Incus-user sets this in the profile default, where it may: it makes the
#: user's own files accessible to instances.
_IDMAP = "raw.idmap"


def check_profile(theirs: Incus, bridge: str, pool_name: str) -> Finding:
    """Check what the admin gives to the project: a network and a pool."""
    name = restricted.PROFILE
    try:
        found = theirs.profile(name)
    except errors.NotFound:
        return good("incus-user will make it")
    fix: list[tuple[str, ...]] = []
    if _IDMAP in found["config"]:
        fix.append(("incus", "profile", "unset", name, _IDMAP))
    if profile.network_of(found["devices"]) is None:
        words = ("name=eth0", f"network={bridge}")
        fix.append(change("add", name, "eth0", "nic", *words))
    disk = profile.root_name(found["devices"])
    if disk not in found["devices"]:
        words = ("path=/", f"pool={pool_name}")
        fix.append(change("add", name, disk, "disk", *words))
    elif found["devices"][disk].get("pool") != pool_name:
        fix.append(change("set", name, disk, f"pool={pool_name}"))
    if fix:
        return failed("it is not as testbeds need it", fix=tuple(fix))
    return good(f"network {bridge}, pool {pool_name}")


def check_restrictions(theirs: Incus, bridge: str) -> Finding:
    """Check that the project allows no more than testbeds need."""
    target = theirs.target(theirs.current_project())
    try:
        config = theirs.project_config()
    except errors.NotFound:  # of a dry run
        config = {}
    wanted = {**_RESTRICTIONS, _NETWORKS: bridge}
    different = [
        f"{key}={value}"
        for key, value in wanted.items()
        if value and config.get(key) != value
    ]
    fix: list[tuple[str, ...]] = [
        ("incus", "project", "unset", target, key)
        for key, value in wanted.items()
        if not value and key in config
    ]
    if different:
        fix.insert(0, ("incus", "project", "set", target, *different))
    if fix:
        return failed("it allows more than testbeds need", fix=tuple(fix))
    return good("no files of this machine, and no network but its own")
