# SPDX-License-Identifier: GPL-3.0-or-later
"""Find the firewall that blocks a bridge, and the commands that open it.

Root can read the kernel's rules, which tell it for certain.  For other users,
installed firewalls are a sign of what may block the bridge.
"""

import contextlib
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from incus_testbed.firewall import rules
from incus_testbed.process import programs

DOCKER, UFW, FIREWALLD = "Docker", "UFW", "firewalld"

#: Seconds for one command; a machine that runs Kubernetes has many rules.
_LIMIT = 30.0
#: The tables that iptables-legacy has made.  To call the program itself would
#: make them.
_LEGACY_TABLES = Path("/proc/net/ip_tables_names")


@dataclass(frozen=True, kw_only=True)
class Obstruction:
    """A firewall that drops packets from a bridge, or may do so.

    ``hides_dhcp``: guests get no address because of it; otherwise they get
    one, but reach nothing beyond this machine.  ``remedy`` holds commands, one
    in each item.
    """

    firewall: str
    certain: bool
    hides_dhcp: bool
    detail: str
    remedy: tuple[str, ...]

    @property
    def known(self) -> bool:
        """Whether the rules of this firewall are understood here."""
        return self.firewall in {DOCKER, UFW, FIREWALLD}


def is_bridge(name: str) -> bool:
    """Tell whether this machine has a bridge of that name."""
    return "/" not in name and Path("/sys/class/net", name, "bridge").is_dir()


def find(bridge: str) -> list[Obstruction]:
    """Return the obstructions of a bridge; those of DHCP come first."""
    tables = _rules(bridge)
    if tables is None:
        return list(suspects(bridge))
    found = {
        (each.firewall, each.hides_dhcp): each
        for table in tables
        for each in of_table(table, bridge)
    }
    return sorted(found.values(), key=lambda each: not each.hides_dhcp)


def of_table(table: rules.Table, bridge: str) -> Iterator[Obstruction]:
    """Yield the obstructions of a bridge by a table's rules."""
    for name, chain in table.closed():
        firewall = _owner(table, name)
        hides_dhcp = chain.hook == rules.INPUT
        where = f"chain {name} of the table {table.family} {table.name}"
        effect = (
            "so guests get no address"
            if hides_dhcp
            else "so guests reach nothing beyond this machine"
        )
        yield Obstruction(
            firewall=firewall or where,
            certain=True,
            hides_dhcp=hides_dhcp,
            detail=f"{firewall or 'a firewall'} drops packets from {bridge}"
            f" ({where}), {effect}",
            remedy=tuple(_insertions(table, name, chain.hook, bridge))
            if not firewall
            else remedy(firewall, bridge, table.tool),
        )


def suspects(bridge: str, root: Path = Path("/")) -> Iterator[Obstruction]:
    """Yield the firewalls in use, for users who can't read the rules."""
    ufw = _text(root / "etc/ufw/ufw.conf")
    firewalld = programs.output(
        ["systemctl", "is-active", "firewalld.service"], timeout=_LIMIT
    )
    for firewall, is_there in (
        (UFW, re.search(r"(?mi)^\s*enabled=yes\s*$", ufw)),
        (FIREWALLD, firewalld is not None),
        (DOCKER, (root / "sys/class/net/docker0").exists()),
    ):
        if is_there:
            yield Obstruction(
                firewall=firewall,
                certain=False,
                hides_dhcp=firewall != DOCKER,
                detail=f"{firewall} may drop packets from {bridge};"
                " only root can read its rules",
                remedy=remedy(firewall, bridge),
            )


def remedy(firewall: str, bridge: str, tool: str = "nft") -> tuple[str, ...]:
    """Return the commands that make a known firewall accept a bridge.

    ``tool`` is the program that changes the table with its rules.
    """
    name = shlex.quote(bridge)
    if firewall == UFW:
        return (
            f"ufw allow in on {name}",
            f"ufw route allow in on {name}",
            f"ufw route allow out on {name}",
        )
    if firewall == FIREWALLD:
        change = f"--zone=trusted --change-interface={name}"
        return (
            f"firewall-cmd --permanent {change}",
            f"firewall-cmd {change}",
        )
    iptables = "iptables" if tool == "nft" else tool
    return tuple(
        f"{iptables} -I DOCKER-USER {option} {name} -j ACCEPT"
        for option in ("-i", "-o")
    )


def _insertions(
    table: rules.Table, chain: str, hook: str, bridge: str
) -> Iterator[str]:
    """Yield the commands that open a chain of an unknown firewall."""
    name = shlex.quote(bridge)
    ways = ("i",) if hook == rules.INPUT else ("i", "o")
    where = shlex.join((table.family, table.name, chain))
    for way in ways:
        if table.tool == "nft":
            yield f"nft insert rule {where} {way}ifname {name} accept"
        else:
            what = f"{shlex.quote(chain)} -{way} {name}"
            yield f"{table.tool} -I {what} -j ACCEPT"


def _owner(table: rules.Table, chain: str) -> str:
    """Return the firewall whose rules a chain leads to, if it is known."""
    if table.name == "firewalld":
        return FIREWALLD
    names = table.reachable(chain)
    # If the chain leads to both, UFW's own commands open it for both.
    if any(name.startswith("ufw-") for name in names):
        return UFW
    if any(name.startswith("DOCKER") for name in names):
        return DOCKER
    return ""


def _rules(bridge: str) -> list[rules.Table] | None:
    """Return the kernel's rules, or None if they can't be read."""
    listed = programs.output(
        ["nft", "--json", "list", "ruleset"], timeout=_LIMIT
    )
    saved = (
        programs.output(["iptables-legacy", "--list-rules"], timeout=_LIMIT)
        if "filter" in _text(_LEGACY_TABLES).split()
        else None
    )
    found = []
    if listed is not None:
        with contextlib.suppress(ValueError, RecursionError):
            found += rules.of_nft(json.loads(listed), bridge)
    if saved is not None:
        found.append(rules.of_iptables(saved, bridge))
    return found if listed is not None or saved is not None else None


def _text(path: Path) -> str:
    """Return what a file holds; empty if it can't be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
