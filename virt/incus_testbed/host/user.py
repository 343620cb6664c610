# SPDX-License-Identifier: GPL-3.0-or-later
"""Give a user of this machine a restricted project, and nothing more of Incus.

It is the project that the daemon incus-user makes when a member of the group
incus first comes to it.  Here the network is made before, since incus-user may
find no free subnet; the user is made to come; and then the project is told to
allow no more than testbeds need.  What incus-user does was read in the source
of Incus 6.0.4 and 7.0: cmd/incus-user.
"""

import os
import pwd
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from incus_testbed import errors
from incus_testbed.host import (
    card,
    firewall,
    images,
    local,
    network,
    pool,
    profile,
    project,
    remedy,
    restricted,
    separation,
    server,
    service,
)
from incus_testbed.host.acl import AS_BEFORE, Access
from incus_testbed.host.requirement import (
    Finding,
    Requirement,
    failed,
    good,
)
from incus_testbed.image import profiles
from incus_testbed.incus import location
from incus_testbed.incus.client import Incus

#: Where incus-user puts instances if nobody chooses another pool.
_POOL = "default"

#: Has a user come to incus-user at the socket $1, without what is in the user's
#: home: there need be none, and Incus 7 makes it.
_VISIT = (
    'export INCUS_CONF="$(mktemp --directory)" INCUS_SOCKET="$1";'
    ' incus query /1.0; status=$?; rm -r "$INCUS_CONF"; exit $status'
)
#: Characters of an interface's name.
_LONGEST_NAME = 15


def admit(
    incus: Incus,
    name: str,
    *,
    pool_name: str | None = None,
    new_pool: str = _POOL,
    profile_name: str | None = None,
    access: Access = AS_BEFORE,
    dry_run: bool = False,
) -> Iterator[tuple[str, ...]]:
    """Give a user a restricted project with all that testbeds need.

    Without ``pool_name`` and ``profile_name``, a project that is there keeps
    those that it has, and another gets ``new_pool``.

    Yields each command line just before it is run; ``dry_run`` runs none.

    :raises errors.NotFound: there is no such user
    :raises errors.Unsupported: it is root; or no command can meet a
        requirement, or its command did not help
    """
    user = _look_up(name)
    if not incus.is_local():
        raise errors.Unsupported(
            f"{name} is a user of this machine, and {incus.choice().remote} is"
            " another machine",
            resolution="Run this on the machine of that Incus.",
        )
    everything = Incus(project="default", remote=incus.remote)
    theirs = Incus(project=_project(user), remote=incus.remote)
    profile_name = profile_name or profiles.chosen(theirs)
    pool_name = pool_name or _chosen_pool(everything, theirs) or new_pool
    separated = separation.requirements(
        everything,
        theirs,
        profile_name,
        network_name=_network(user),
        pool_name=pool_name,
        access=access,
        local=True,
    )
    for client, needs in (
        (everything, _of_server(everything, user, pool_name)),
        (
            theirs,
            _of_project(everything, theirs, user, pool_name, profile_name),
        ),
        (theirs, separated),
        # Last: a service that is let in is restarted, and checks the others.
        (
            everything,
            [Requirement(f"user {name}", partial(_check_groups, user))],
        ),
    ):
        for need in needs:
            yield from remedy.apply(client, need, dry_run=dry_run)


def _chosen_pool(everything: Incus, theirs: Incus) -> str | None:
    """Return the pool that a user's project has, if there is one.

    A user can write any name into the profile, and Incus does not check it.
    """
    name = profile.pool_of(profile.devices_of(theirs, restricted.PROFILE))
    is_there = name and any(pool["name"] == name for pool in everything.pools())
    return name if is_there else None


def is_admin(name: str) -> bool:
    """Tell whether a user may do everything in Incus."""
    return service.ADMINS in service.groups(_look_up(name))


def _look_up(name: str) -> pwd.struct_passwd:
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        raise errors.NotFound(f"There is no user {name}") from None
    if user.pw_uid == 0:
        raise errors.Unsupported(
            f"{name} has all rights of root, which no project restricts",
            resolution="Name the user who is to run testbeds.",
        )
    return user


def _project(user: pwd.struct_passwd) -> str:
    """Return the name that incus-user gives to a user's project."""
    return f"{location.USER_PROJECT}{user.pw_uid}"


def _network(user: pwd.struct_passwd) -> str:
    """Return the name that incus-user gives to a user's network."""
    name = f"incusbr-{user.pw_uid}"
    return name if len(name) <= _LONGEST_NAME else f"user-{user.pw_uid}"


def _of_server(
    incus: Incus, user: pwd.struct_passwd, pool_name: str
) -> Iterator[Requirement]:
    """Yield what has to be there before the user comes."""
    bridge = _network(user)
    yield Requirement("Incus server", partial(server.check, incus))
    yield Requirement("user ids", local.check_ids)
    yield Requirement("nft", partial(firewall.check_program, incus))
    # incus-user refuses users on a server without the first one.
    for name in dict.fromkeys((_POOL, pool_name)):
        yield Requirement(
            f"storage pool {name}", partial(pool.check, incus, name, local=True)
        )
    yield Requirement(
        f"network {bridge}", partial(network.check, incus, bridge, local=True)
    )
    yield Requirement("incus-user", _check_socket)
    yield Requirement(
        f"project {_project(user)}", partial(_check_admission, incus, user)
    )


def _of_project(
    everything: Incus,
    theirs: Incus,
    user: pwd.struct_passwd,
    pool_name: str,
    name: str,
) -> Iterator[Requirement]:
    """Yield what the user's project has to hold, and to forbid."""
    bridge = _network(user)
    yield Requirement(
        f"profile {restricted.PROFILE}",
        partial(project.check_profile, theirs, bridge, pool_name),
    )
    yield Requirement(
        f"restrictions of {_project(user)}",
        partial(project.check_restrictions, theirs, bridge),
    )
    yield Requirement(
        f"profile {name}",
        lambda: profile.check(
            theirs,
            name,
            network=bridge,
            new_card=card.separation(
                network.managed(everything, bridge, local=True)
            ),
            pool=pool_name,
            raw=False,
        ),
    )
    yield Requirement(
        "nested containers", partial(profile.check_nesting, theirs, name)
    )
    yield Requirement(
        f"profile {profiles.for_vms(name)}",
        partial(
            profile.check_for_vms,
            theirs,
            profiles.for_vms(name),
            beside=name,
            pool=pool_name,
        ),
    )
    yield Requirement(
        "profile of images", partial(images.check_choice, theirs, name)
    )


def _socket() -> Path:
    return location.user_socket(os.environ)


def _check_socket() -> Finding:
    socket = _socket()
    if socket.exists():
        return good(str(socket))
    if Path("/run/systemd/system").exists():
        return failed(
            "it does not listen",
            fix=(("systemctl", "enable", "--now", "incus-user.socket"),),
        )
    return failed(
        f"it does not listen at {socket}",
        advice=f"Start it: incus-user --group {service.GROUP}; this machine has"
        " no systemd to do it",
    )


def _check_admission(incus: Incus, user: pwd.struct_passwd) -> Finding:
    """Check whether the user has come to incus-user."""
    name = _project(user)
    present = name in incus.projects()
    trusted = any(
        name in (certificate.get("projects") or ())
        for certificate in incus.certificates()
    )
    if present and trusted:
        return good(f"{user.pw_name} has it")
    visit = (
        *("setpriv", f"--reuid={user.pw_uid}", f"--regid={service.GROUP}"),
        *("--clear-groups", "--reset-env", "sh", "-c", _VISIT, "sh"),
        str(_socket()),
    )
    # It knows only the projects that were there when it was started.
    restart = ("systemctl", "try-restart", "incus-user.service")
    stale = present and Path("/run/systemd/system").exists()
    return failed(
        f"{user.pw_name} has none",
        fix=(restart, visit) if stale else (visit,),
    )


def _check_groups(user: pwd.struct_passwd) -> Finding:
    name = user.pw_name
    if service.GROUP not in service.groups(user):
        return failed(
            f"is not in the group {service.GROUP}",
            fix=(("adduser", name, service.GROUP), *service.restart(name)),
        )
    return good(f"is in the group {service.GROUP}")
