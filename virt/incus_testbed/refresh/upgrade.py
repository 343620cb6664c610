# SPDX-License-Identifier: GPL-3.0-or-later
"""Bring the system of an instance up to date, with its own apt."""

import os
from collections.abc import Callable, Mapping

from incus_testbed import errors
from incus_testbed.bootstrap import bridge, proxy
from incus_testbed.incus.client import Incus
from incus_testbed.instance import scripts
from incus_testbed.instance.guest import SCRIPT_LIMIT, Guest

#: Seconds for all of it, and for each command of apt.
LIMIT = 5400.0
_APT_LIMIT = 3600.0

_VERBS = ("update", "dist-upgrade", "autoremove", "clean")


def upgrade(
    guest: Guest,
    proxies: Mapping[str, str],
    on_step: Callable[[str], None] | None = None,
) -> None:
    """Bring an instance's system up to date.

    ``proxies``, by URL scheme, are used if the system itself names none.
    ``on_step`` is called with a line for each step.

    :raises errors.CommandFailed: apt failed; details are its last lines
    """
    for verb in _VERBS:
        if on_step:
            on_step(f"apt-get {verb}")
        run_apt(guest, verb, proxies)


def run_apt(guest: Guest, verb: str, proxies: Mapping[str, str]) -> None:
    """Run one command of apt-get in an instance; see upgrade()."""
    variables = [f"{scheme}_proxy={url}" for scheme, url in proxies.items()]
    done = guest.execute(
        scripts.command("apt.sh", verb, *variables), timeout=_APT_LIMIT
    )
    if done.status:
        raise errors.CommandFailed(
            f"apt-get {verb} failed in the instance, with status {done.status}",
            details=done.stdout.decode(errors="replace"),
        )


def forget(guest: Guest) -> None:
    """Remove what makes an instance's system different from all others.

    :raises errors.CommandFailed: it can't be removed
    """
    done = guest.execute(scripts.command("forget.sh"), timeout=SCRIPT_LIMIT)
    if done.status:
        raise errors.CommandFailed(
            f"The system in {guest.name} can't be made anonymous",
            details=done.stderr,
        )


def proxies(incus: Incus) -> dict[str, str]:
    """Return the proxies of this machine's apt, as guests can use them.

    There are none if this machine is no Debian.
    """
    # Here, because python-debian takes a tenth of a second to import.
    from incus_testbed.bootstrap import apt  # noqa: PLC0415

    try:
        mirrors = apt.debian().mirrors
    except errors.TestbedError:
        return {}
    found = proxy.of_mirrors(mirrors, os.environ)
    return proxy.all_for_guests(found, bridge.address(incus)) if found else {}
