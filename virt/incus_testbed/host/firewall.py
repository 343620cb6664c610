# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that the packet filter lets testbeds through, and has its program."""

import os
import shutil

from incus_testbed.firewall import obstruction
from incus_testbed.firewall.obstruction import Obstruction
from incus_testbed.host.requirement import Finding, State, failed, good
from incus_testbed.incus.client import Incus

#: The first version of Incus that does not use iptables.
_NEEDS_NFT = 7


def check(bridge: str) -> Finding:
    """Check whether a firewall drops packets from the testbeds' bridge."""
    if not obstruction.is_bridge(bridge):
        return Finding(
            state=State.UNKNOWN, detail=f"there is no bridge {bridge}"
        )
    found = obstruction.find(bridge)
    if not found:
        return good(f"none found that blocks {bridge}")
    # Several obstructions by one firewall often have the same remedy.
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
    # Rules that are not understood here may let testbeds through.
    return State.FAILED if found.known else State.WARNING


def check_program(incus: Incus) -> Finding:
    """Look for the program with which Incus changes the packet filter."""
    version = str(incus.server()["environment"]["server_version"])
    major = version.partition(".")[0]
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    if shutil.which("nft", path=path):
        return good("nft")
    if not major.isdecimal() or int(major) < _NEEDS_NFT:
        return good(f"Incus {version} does not need nft")
    return failed(
        f"nft is not installed: Incus {version} can't make a network",
        advice="apt install nftables && systemctl restart incus",
    )
