# SPDX-License-Identifier: GPL-3.0-or-later
"""The packet filter: it lets testbeds through, and Incus can change it."""

import os
import shutil

from incus_testbed.client import Incus
from incus_testbed.firewall import obstruction
from incus_testbed.firewall.obstruction import Obstruction
from incus_testbed.host.requirement import Finding, State, good

#: The first version of Incus that has no use for iptables.
_NEEDS_NFT = 7


def check(bridge: str) -> Finding:
    """Look whether a firewall drops what comes from the testbeds' bridge."""
    if not obstruction.is_bridge(bridge):
        return Finding(
            state=State.UNKNOWN, detail=f"there is no bridge {bridge}"
        )
    found = obstruction.find(bridge)
    if not found:
        return good(f"none is known to keep {bridge} from the network")
    # One remedy often is for all that a firewall does.
    commands = dict.fromkeys(
        command for each in found for command in each.remedy
    )
    return Finding(
        state=max((_state(each) for each in found), key=_SEVERITY.index),
        detail="; ".join(each.detail for each in found),
        advice="\n".join(commands),
    )


_SEVERITY = (State.NOTE, State.WARNING, State.FAILED)


def _state(found: Obstruction) -> State:
    if not found.certain:
        return State.NOTE
    # Other rules may let testbeds through in a way that is not seen here.
    return State.FAILED if found.known else State.WARNING


def check_program(incus: Incus) -> Finding:
    """Look for the program that Incus changes the packet filter with."""
    version = str(incus.server()["environment"]["server_version"])
    major = version.partition(".")[0]
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if shutil.which("nft", path=path):
        return good("nft")
    if not major.isdecimal() or int(major) < _NEEDS_NFT:
        return good(f"Incus {version} does without nft")
    return Finding(
        state=State.FAILED,
        detail=f"nft is not installed: Incus {version} can't make a network",
        advice="apt install nftables && systemctl restart incus",
    )
