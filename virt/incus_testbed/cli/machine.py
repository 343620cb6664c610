# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that check and set up this machine: setup and doctor."""

import argparse
import dataclasses
import re
import shlex
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address

from incus_testbed import errors
from incus_testbed.cli import output
from incus_testbed.host import doctor as host_doctor
from incus_testbed.host import service, user
from incus_testbed.incus.client import Incus


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
    usual = host_doctor.Names()
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


def setup(incus: Incus, arguments: argparse.Namespace) -> int:
    """Run setup; return its exit status."""
    # What would be done is the result of a dry run.
    say = print if arguments.dry_run else output.say
    done = []
    for argv in _commands(incus, arguments):
        say(f"$ {shlex.join(argv)}")
        done.append(argv)
    if not done:
        output.say("Nothing is missing: nothing to do.")
    elif not arguments.dry_run and not any(
        "try-restart" in argv for argv in done
    ):
        # A worker only announces its backends when it starts.
        for unit in service.units():
            print(f"For the worker to offer Incus: systemctl restart {unit}")
    return 0


def _access(arguments: argparse.Namespace) -> host_doctor.Access:
    private = arguments.close_private
    return host_doctor.Access(
        private=None if private is None else not private,
        allowed=tuple(arguments.allow),
    )


def _commands(
    incus: Incus, arguments: argparse.Namespace
) -> Iterator[tuple[str, ...]]:
    """Yield the commands of setup as they are run."""
    name = arguments.restricted
    if name is None:
        yield from host_doctor.setup(
            incus,
            _names(incus, arguments),
            access=_access(arguments),
            dry_run=arguments.dry_run,
        )
        return
    if arguments.network or arguments.project:
        raise errors.Unsupported(
            "--restricted chooses the network and the project itself",
            resolution=f"incus-testbed setup --restricted {name}",
        )
    usual = host_doctor.Names()
    yield from user.admit(
        incus,
        name,
        pool_name=arguments.pool or usual.pool,
        profile_name=arguments.profile or usual.profile,
        access=_access(arguments),
        dry_run=arguments.dry_run,
    )
    if user.is_admin(name):
        print(
            f"{name} is in the group {service.ADMINS}, and so as good as root."
            f" To end that: {service.leaving(name)}"
        )


def doctor(incus: Incus, arguments: argparse.Namespace) -> int:
    """Run doctor; return its exit status."""
    reports = host_doctor.doctor(incus, _names(incus, arguments))
    _show(
        "What containers and virtual machines need:",
        [report for report in reports if report.drivers],
    )
    print()
    _show(
        "What an admin should look at; testbeds also run without it:",
        [report for report in reports if not report.drivers],
    )
    failed = any(
        report.is_obstacle(host_doctor.CONTAINERS) for report in reports
    )
    return 1 if failed else 0


def _show(title: str, reports: Sequence[host_doctor.Report]) -> None:
    """Print one part of the report, and the commands that repair it."""
    print(title)
    output.table(
        ("", "REQUIREMENT", "FOUND"),
        [
            (
                report.finding.state.value,
                report.requirement,
                report.finding.detail,
            )
            for report in reports
        ],
    )
    for report in reports:
        if report.remedies:
            print(f"\n{report.requirement}:")
            for remedy in report.remedies:
                print(f"  {remedy}")


def _names(incus: Incus, arguments: argparse.Namespace) -> host_doctor.Names:
    """Return the names that were given; for the others, those in use."""
    asked = {
        kind: getattr(arguments, kind)
        for kind in ("network", "pool")
        if getattr(arguments, kind)
    }
    names = host_doctor.names_in_use(incus, arguments.profile)
    return dataclasses.replace(names, **asked)
