# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine needs so that testbeds run on it.

One list of requirements, two verbs: doctor() looks, setup() mends.  Nothing
is printed here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from shlex import join

from incus_testbed import errors, process
from incus_testbed.client import Incus
from incus_testbed.host import (
    firewall,
    fixes,
    images,
    machine,
    network,
    pool,
    profile,
    server,
    service,
    virtual,
)
from incus_testbed.host.requirement import Finding, Requirement, State
from incus_testbed.image import labels

__all__ = [
    "Finding",
    "Names",
    "Report",
    "State",
    "doctor",
    "names_in_use",
    "obstacles",
    "setup",
]

_ATTEMPTS = 3
#: Seconds for one command: making a pool writes a file system.
_COMMAND_LIMIT = 300.0


@dataclass(frozen=True, kw_only=True)
class Names:
    """What the things that setup makes are called."""

    network: str = "debusinebr0"
    pool: str = "default"
    profile: str = "debusine"

    @property
    def machine_profile(self) -> str:
        """The profile that virtual machines have beside the other."""
        return labels.machine_profile(self.profile)


@dataclass(frozen=True)
class Report:
    """A requirement and what was found of it.

    ``remedies`` are the commands or advice that mend it, a line each; empty
    where nothing needs mending.
    """

    requirement: str
    finding: Finding
    remedies: tuple[str, ...]


def doctor(incus: Incus, names: Names | None = None) -> list[Report]:
    """Check every requirement; change nothing.

    What only the server can tell is UNKNOWN where none answers.
    """
    basics, objects = _requirements(incus, names or Names())
    reports = [_report(incus, need, need.check()) for need in basics]
    answers = reports[-1].finding.state is not State.FAILED
    unknown = Finding(state=State.UNKNOWN, detail="no Incus to ask")
    return reports + [
        _report(incus, need, need.check() if answers else unknown)
        for need in objects
    ]


def names_in_use(incus: Incus, profile_name: str = Names.profile) -> Names:
    """Return the names of the network and pool that a profile refers to.

    Where it refers to none they are those that setup() makes.
    """
    try:
        devices = incus.profile(profile_name)["devices"].values()
    except errors.TestbedError:
        devices = ()
    found = {
        key: device[key]
        for device in devices
        for kind, key in (("nic", "network"), ("disk", "pool"))
        if device.get("type") == kind and key in device
    }
    return Names(profile=profile_name, **found)


def obstacles(incus: Incus, *, driver: str) -> list[str]:
    """Say, a line each, what keeps instances of a driver from running here.

    ``driver`` is Incus's name: lxc for containers, qemu for virtual machines.
    """
    reports = doctor(incus, names_in_use(incus))
    lines = [
        f"{report.requirement}: {report.finding.detail}"
        for report in reports
        if report.finding.state is State.FAILED
    ]
    if not lines and driver not in server.drivers(incus):
        if driver != virtual.DRIVER:
            return [f"Incus server: its driver {driver} does not work"]
        finding = virtual.check(incus, local=_is_local(incus))
        lines.append(f"virtual machines: {finding.detail}")
    return lines


def setup(
    incus: Incus, names: Names | None = None, *, dry_run: bool = False
) -> Iterator[tuple[str, ...]]:
    """Meet every requirement that a command can meet.

    Yields each command line just before it is run; ``dry_run`` runs none.
    Nothing to do yields nothing.

    :raises errors.Unsupported: something is amiss that no command mends, or
        that remained after its command; says what a person can do
    """
    basics, objects = _requirements(incus, names or Names())
    for need in (*basics, *objects):
        yield from _plan(incus, need) if dry_run else _meet(incus, need)


def _plan(incus: Incus, need: Requirement) -> Iterator[tuple[str, ...]]:
    """Yield the command lines that would meet a requirement."""
    finding = need.check()
    if finding.state is State.FAILED and not finding.fix:
        raise _unmet(need, finding)
    yield from (_aimed(incus, argv) for argv in finding.fix)


def _meet(incus: Incus, need: Requirement) -> Iterator[tuple[str, ...]]:
    """Meet a requirement, yielding each command line before it is run.

    Incus looks at all of the host's interfaces when it makes a bridge, and
    fails if one of them, of an instance that stops, vanishes meanwhile: what
    then is still amiss is tried again.
    """
    finding = need.check()
    failure: errors.TestbedError | None = None
    for _ in range(_ATTEMPTS):
        if finding.state is not State.FAILED:
            return
        try:
            for argv in finding.fix:
                yield _aimed(incus, argv)
                _run(incus, argv)
        except errors.TestbedError as error:
            failure = error
        finding = need.check()
    if finding.state is State.FAILED:
        raise failure or _unmet(need, finding)


def _aimed(incus: Incus, argv: tuple[str, ...]) -> tuple[str, ...]:
    """Return a command line for the project of this client."""
    program, *words = argv
    return tuple(incus.argv(*words)) if program == "incus" else argv


def _run(incus: Incus, argv: tuple[str, ...]) -> None:
    program, *words = argv
    if program == "incus":
        incus.run(*words, timeout=_COMMAND_LIMIT)
        return
    completed = process.run(argv, timeout=_COMMAND_LIMIT)
    if completed.status != 0:
        raise errors.CommandFailed(
            f"'{join(argv)}' failed",
            details=completed.stderr,
            resolution="Run this as root.",
        )


def _requirements(
    incus: Incus, names: Names
) -> tuple[list[Requirement], list[Requirement]]:
    """Return the basics, the server last, and what is met once it answers.

    They are in the order in which they can be met.
    """
    local = _is_local(incus)
    basics = [Requirement("programs", machine.check_programs)]
    if local:
        basics.append(Requirement("kernel limits", machine.check_limits))
    basics.append(Requirement("Incus server", partial(server.check, incus)))
    objects = [
        Requirement(
            f"network {names.network}",
            partial(network.check, incus, names.network, local=local),
        ),
        Requirement(
            f"storage pool {names.pool}",
            partial(pool.check, incus, names.pool, local=local),
        ),
        Requirement(
            f"profile {names.profile}",
            partial(
                profile.check,
                incus,
                names.profile,
                network=names.network,
                pool=names.pool,
            ),
        ),
        Requirement(
            f"profile {names.machine_profile}",
            partial(
                profile.check_for_machines,
                incus,
                names.machine_profile,
                pool=names.pool,
            ),
        ),
        Requirement(
            "virtual machines", partial(virtual.check, incus, local=local)
        ),
        Requirement("images", partial(images.check, incus, names.profile)),
    ]
    if local:
        # First: Incus gives root its ids when it is installed.  Last: a
        # service that is let in looks at what there is when it starts.
        ids = Requirement("user ids", machine.check_ids)
        objects = [
            ids,
            Requirement("nft", partial(firewall.check_program, incus)),
            *objects,
            *service.requirements(),
            Requirement("firewall", partial(firewall.check, names.network)),
            Requirement("security fixes", fixes.check),
        ]
    return basics, objects


def _is_local(incus: Incus) -> bool:
    return incus.remote in {None, "local"}


def _report(incus: Incus, need: Requirement, finding: Finding) -> Report:
    commands = [join(_aimed(incus, argv)) for argv in finding.fix]
    return Report(need.name, finding, (*commands, *finding.advice.splitlines()))


def _unmet(need: Requirement, finding: Finding) -> errors.Unsupported:
    return errors.Unsupported(
        f"{need.name}: {finding.detail}", resolution=finding.advice
    )
