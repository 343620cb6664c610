# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands that check and set up this machine: setup and doctor."""

import argparse
import dataclasses
import shlex
from collections.abc import Iterator, Sequence

from incus_testbed import errors
from incus_testbed.cli import output
from incus_testbed.host import doctor as host_doctor
from incus_testbed.host import service, user
from incus_testbed.incus.client import Incus


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
    yield from user.admit(
        incus,
        name,
        pool_name=arguments.pool,
        profile_name=arguments.profile,
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
