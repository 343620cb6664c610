# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of the commands that check and set up this machine."""

import argparse
import re
from ipaddress import IPv4Address, IPv6Address, ip_address

from incus_testbed.host.names import Names


def add_commands(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add setup and doctor to a command line."""
    setup = commands.add_parser(
        "setup",
        help="make the network, storage pool and profiles",
        description="Make what is missing for testbeds: the network, the"
        " storage pool and the profiles. If there is a Debusine worker, give"
        " its user a restricted project. Can be run again at any time.",
    )
    setup.add_argument(
        "--restricted",
        metavar="USER",
        help="as root: give a user a project with all that testbeds need, and"
        " no other rights in Incus; the user joins the group incus",
    )
    setup.add_argument(
        "--dry-run", action="store_true", help="only print the commands"
    )
    doctor = commands.add_parser(
        "doctor",
        help="check this machine, without changing it",
        description="Check what containers and virtual machines need, and what"
        " an admin should look at, and say how to repair it. The exit status is"
        " 1 if containers can't run.",
    )
    setup.add_argument(
        "--close-private",
        action=argparse.BooleanOptionalAction,
        help="keep testbeds from private addresses, such as those of other"
        " machines in this place; --no-close-private opens them again",
    )
    setup.add_argument(
        "--allow",
        metavar="ADDRESS:PORT",
        type=_service,
        action="append",
        default=[],
        help="let testbeds reach a TCP service that is otherwise closed to"
        " them, such as a proxy of apt on this machine; can be given several"
        " times",
    )
    usual = Names()
    for command in (setup, doctor):
        for name in ("network", "pool", "profile"):
            command.add_argument(
                f"--{name}",
                metavar="NAME",
                help=f"without it: the one in use, or {getattr(usual, name)}",
            )


def _service(text: str) -> tuple[IPv4Address | IPv6Address, int]:
    """Read an address and a port: 192.0.2.1:3142, or [2001:db8::1]:3142."""
    host, _, port = text.rpartition(":")
    try:
        address = ip_address(re.sub(r"^\[(.*:.*)\]$", r"\1", host))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not an address with a port, such as 192.0.2.1:3142;"
            " a name won't do, since the packet filter knows addresses only"
        ) from None
    if not re.fullmatch(r"\d{1,5}", port, re.ASCII) or not (
        0 < int(port) < 1 << 16
    ):
        raise argparse.ArgumentTypeError(f"{port!r} is not a port")
    return address, int(port)
