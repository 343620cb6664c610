# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the members of a cluster, and make what each of them has to have.

Each member is a machine with a storage pool and a bridge of its own.  Incus
chooses the one that an instance is made on.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from incus_testbed import errors
from incus_testbed.host import server
from incus_testbed.host.requirement import (
    Finding,
    Requirement,
    State,
    failed,
    good,
    warning,
)
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import Member

_WAKE = (
    "Start {0}, or Incus on it. If it is gone for good: incus cluster remove"
    " --force {0}"
)
#: What each state of a member means, and what to do about it.
_STATES = {
    "Evacuated": (
        "takes no testbeds: an admin has evacuated it",
        "incus cluster restore {}",
    ),
    "Blocked": (
        "waits until all members have its version of Incus",
        "Upgrade Incus on the other members",
    ),
    "Offline": ("does not answer: its testbeds are out of reach", _WAKE),
}


def requirements(incus: Incus) -> Iterator[Requirement]:
    """Yield a requirement for each member of the server's cluster, if any.

    They are not for a user whom Incus keeps to a project.
    """
    try:
        members = incus.members()
    except errors.TestbedError:
        return
    if not members:
        return
    for member in members:
        yield Requirement(
            f"member {member.name}",
            partial(_check, incus, member),
            asks_server=True,
        )
    yield Requirement(
        "other machines", partial(_elsewhere, incus, members), asks_server=True
    )


def creation(
    incus: Incus,
    words: Sequence[str],
    *,
    everywhere: Sequence[str] = (),
    on: Callable[[str], Sequence[str]] = lambda _: (),
    present: Sequence[str] = (),
) -> Finding:
    """Return the finding that something is missing, whose fix makes it.

    ``words`` make it, with settings that are the same ``everywhere`` and those
    that ``on`` has for a member's name, which is empty without a cluster.  In a
    cluster each member needs a piece, which those have that are ``present``.
    """
    detail = "it is not complete" if present else "it does not exist"
    members = incus.members()
    if not members:
        return failed(detail, fix=((*words, *on(""), *everywhere),))
    if absent := [each.name for each in members if each.is_offline]:
        return failed(
            f"{detail}, and can't be made while {' '.join(absent)} does not"
            " answer",
            advice=_WAKE.format(incus.target(absent[0])),
        )
    pieces = [
        (*words, *on(each.name), f"--target={each.name}")
        for each in members
        if each.name not in present
    ]
    return failed(detail, fix=(*pieces, (*words, *everywhere)))


def name_of(incus: Incus) -> str:
    """Return the name of the member that answers; empty without a cluster."""
    environment = incus.server()["environment"]
    clustered = environment.get("server_clustered")
    return str(environment["server_name"]) if clustered else ""


def ask(incus: Incus, question: Callable[[str], Any]) -> dict[str, Any]:
    """Ask each member that answers; return the answers by the member's name.

    The one that answers this client has no name if it is not in a cluster.

    :raises errors.TestbedError: the server refuses or does not answer
    """
    members = incus.members()
    answers = {}
    for member in members:
        if not member.is_offline:
            try:
                answers[member.name] = question(member.name)
            except (errors.DaemonDown, errors.TimedOut):
                # It went away just now.
                continue
    # When one has gone, the others too seem to be offline for some seconds.
    return answers or {"": question("")}


def smallest(incus: Incus) -> Mapping[str, Any]:
    """Return the processors and memory that every member has at least."""
    found = ask(incus, lambda member: incus.resources(member=member)).values()
    return {
        part: {"total": min(each[part]["total"] for each in found)}
        for part in ("cpu", "memory")
    }


def _check(incus: Incus, member: Member) -> Finding:
    """Check that a member takes testbeds, as the others do."""
    target = incus.target(member.name)
    if not member.is_online:
        said, remedy = _STATES.get(member.status, (member.status, _WAKE))
        return warning(f"{said} ({member.message})", remedy.format(target))
    try:
        there = incus.server(member=member.name)["environment"]
    except errors.TestbedError as error:
        return warning(f"does not answer: {error.brief}", _WAKE.format(target))
    here = incus.server()["environment"]
    lacking = set(server.drivers_of(here)) - set(server.drivers_of(there))
    if lacking:
        return warning(
            f"Incus {there['server_version']}, without the driver"
            f" {' '.join(sorted(lacking))} that {here['server_name']} has",
            f"incus-testbed doctor, on {member.name}",
        )
    return good(f"Incus {there['server_version']}, {there['driver']}")


def _elsewhere(incus: Incus, members: Sequence[Member]) -> Finding:
    here = name_of(incus) if incus.is_local() else ""
    others = [each.name for each in members if each.name != here]
    if not others:
        return good("there are none")
    return Finding(
        state=State.UNKNOWN,
        detail="programs, kernel limits and firewall of"
        f" {', '.join(others)} can't be seen from here",
        advice="Run 'incus-testbed doctor' there, too",
    )
