# SPDX-License-Identifier: GPL-3.0-or-later
"""Check and set up a machine so that testbeds run on it.

There is one list of requirements: doctor() checks it, setup() meets it.
Nothing is printed here.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from shlex import join

from incus_testbed import errors
from incus_testbed.host import (
    card,
    firewall,
    fixes,
    images,
    network,
    pool,
    profile,
    separation,
    server,
    service,
    vm,
)
from incus_testbed.host import local as host_local
from incus_testbed.host.acl import AS_BEFORE, Access
from incus_testbed.host.requirement import (
    ALL,
    CONTAINERS,
    MACHINES,
    Finding,
    Requirement,
    State,
)
from incus_testbed.image import profiles
from incus_testbed.incus.client import Incus
from incus_testbed.process import programs

__all__ = [
    "AS_BEFORE",
    "CONTAINERS",
    "MACHINES",
    "Access",
    "Finding",
    "Names",
    "Report",
    "State",
    "doctor",
    "names_in_use",
    "obstacles",
    "setup",
]

_SERVER = "Incus server"
_ATTEMPTS = 3
#: Seconds for one command: making a pool writes a file system.
_COMMAND_LIMIT = 300.0


@dataclass(frozen=True, kw_only=True)
class Names:
    """Names of the network, pool and profiles that setup makes."""

    network: str = "debusinebr0"
    pool: str = "default"
    profile: str = profiles.USUAL

    @property
    def machine_profile(self) -> str:
        """The second profile of virtual machines."""
        return profiles.for_machines(self.profile)


@dataclass(frozen=True)
class Report:
    """A requirement and the finding about it.

    ``remedies`` are the commands or advice to meet it, each on its own line;
    empty if there is nothing to do.  ``drivers`` are those of Incus whose
    instances can't run without it; empty if all instances can.
    """

    requirement: str
    finding: Finding
    remedies: tuple[str, ...]
    drivers: frozenset[str]

    def is_obstacle(self, driver: str) -> bool:
        """Tell whether it prevents instances of a driver from running."""
        return driver in self.drivers and self.finding.state is State.FAILED


def doctor(incus: Incus, names: Names | None = None) -> list[Report]:
    """Check every requirement; change nothing.

    If no server answers, requirements that only a server can check are
    UNKNOWN.  Without ``names``, those in use are checked.
    """
    return list(_reports(incus, _requirements(incus, names)))


def _reports(incus: Incus, needs: Sequence[Requirement]) -> Iterator[Report]:
    answers = True
    for need in needs:
        if need.asks_server and not answers:
            finding = Finding(state=State.UNKNOWN, detail="no Incus to ask")
        else:
            finding = need.check()
        if need.name == _SERVER:
            answers = finding.state is not State.FAILED
        yield _report(incus, need, finding)


def names_in_use(incus: Incus, profile_name: str | None = None) -> Names:
    """Return the names of the network and pool that a profile refers to.

    If it refers to none, return the names that setup() uses.  The default
    profile is the one that the project's images get.
    """
    name = profile_name or profiles.chosen(incus)
    devices = profile.devices_of(incus, name)
    return Names(
        network=profile.network_of(devices) or Names.network,
        pool=profile.pool_of(devices) or Names.pool,
        profile=name,
    )


def obstacles(incus: Incus, *, driver: str) -> list[str]:
    """Return the reasons why instances of a driver can't run here, one a line.

    ``driver`` is Incus's name: lxc for containers, qemu for virtual machines.
    Only the requirements of that driver are checked, as the current user.
    """
    needs = [need for need in _requirements(incus) if driver in need.drivers]
    lines = [
        f"{report.requirement}: {report.finding.detail}"
        for report in _reports(incus, needs)
        if report.is_obstacle(driver)
    ]
    if not lines and driver not in server.drivers(incus):
        if driver != MACHINES:
            return [f"Incus server: its driver {driver} does not work"]
        finding = vm.check(incus, local=_is_local(incus))
        lines.append(f"virtual machines: {finding.detail}")
    return lines


def setup(
    incus: Incus,
    names: Names | None = None,
    *,
    access: Access = AS_BEFORE,
    dry_run: bool = False,
) -> Iterator[tuple[str, ...]]:
    """Meet every requirement that a command can meet.

    ``access`` says what testbeds shall reach.  Yields each command line just
    before it is run; ``dry_run`` runs none.  Yields nothing if there is nothing
    to do.

    :raises errors.Unsupported: no command can meet a requirement, or its
        command did not help; says what a person can do
    """
    for need in _requirements(incus, names, access):
        yield from _plan(incus, need) if dry_run else _meet(incus, need)


def _plan(incus: Incus, need: Requirement) -> Iterator[tuple[str, ...]]:
    """Yield the command lines that would meet a requirement."""
    finding = need.check()
    if finding.state is State.FAILED and not finding.fix:
        raise _unmet(need, finding)
    yield from (_aimed(incus, argv) for argv in finding.fix)


def _meet(incus: Incus, need: Requirement) -> Iterator[tuple[str, ...]]:
    """Meet a requirement, yielding each command line before it is run.

    A failure is tried again: when Incus makes a bridge, it reads all of the
    host's network interfaces, and fails if one of them disappears meanwhile
    because an instance stops.
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
    """Return a command line with this client's remote and project."""
    program, *words = argv
    return tuple(incus.argv(*words)) if program == "incus" else argv


def _run(incus: Incus, argv: tuple[str, ...]) -> None:
    program, *words = argv
    if program == "incus":
        incus.run(*words, timeout=_COMMAND_LIMIT)
        return
    completed = programs.run(argv, timeout=_COMMAND_LIMIT)
    if completed.status != 0:
        raise errors.CommandFailed(
            f"'{join(argv)}' failed",
            details=completed.stderr,
            resolution="Run this as root.",
        )


def _requirements(
    incus: Incus, names: Names | None = None, access: Access = AS_BEFORE
) -> list[Requirement]:
    """Return all requirements, in the order in which they can be met."""
    local = _is_local(incus)
    names = names or names_in_use(incus)
    return [
        *_of_machine(local=local),
        Requirement(_SERVER, partial(server.check, incus), ALL),
        *_of_incus(incus, names, local=local),
        *separation.requirements(
            incus,
            network=names.network,
            storage=names.pool,
            profile_name=names.profile,
            access=access,
            local=local,
        ),
        # Last, because a service that is given access is restarted, and then
        # checks the other requirements.
        *(service.requirements() if local else ()),
    ]


def _of_machine(*, local: bool) -> Iterator[Requirement]:
    """Yield the requirements of this machine that don't concern Incus."""
    yield Requirement("programs", host_local.check_programs, ALL)
    yield Requirement("sandbox", host_local.check_sandbox)
    if local:
        yield Requirement("kernel limits", host_local.check_limits)
        yield Requirement("security fixes", fixes.check)


def _of_incus(
    incus: Incus, names: Names, *, local: bool
) -> Iterator[Requirement]:
    """Yield the requirements that can be checked once Incus answers."""

    def need(
        name: str, check: Callable[[], Finding], *drivers: str
    ) -> Requirement:
        return Requirement(name, check, frozenset(drivers), asks_server=True)

    if local:
        # Installing Incus gives root its ids.
        yield need("user ids", host_local.check_ids, CONTAINERS)
        yield need("nft", partial(firewall.check_program, incus), *ALL)
    yield need(
        f"network {names.network}",
        partial(network.check, incus, names.network, local=local),
        *ALL,
    )
    yield need(
        f"storage pool {names.pool}",
        partial(pool.check, incus, names.pool, local=local),
        *ALL,
    )
    yield need(
        f"profile {names.profile}",
        lambda: profile.check(
            incus,
            names.profile,
            network=names.network,
            new_card=card.separation(
                network.managed(incus, names.network, local=local)
            ),
            pool=names.pool,
        ),
        *ALL,
    )
    # The profile made by the script of Debusine before 0.14.5 lacks this.
    yield need(
        "nested containers",
        partial(profile.check_nesting, incus, names.profile),
    )
    yield need(
        f"profile {names.machine_profile}",
        partial(
            profile.check_for_machines,
            incus,
            names.machine_profile,
            beside=names.profile,
            pool=names.pool,
        ),
        MACHINES,
    )
    yield need(
        "virtual machines",
        partial(vm.check, incus, local=local),
        MACHINES,
    )
    if local:
        yield need("firewall", partial(firewall.check, names.network), *ALL)
    yield need(
        "profile of images", partial(images.check_choice, incus, names.profile)
    )
    yield need("images", partial(images.check, incus, names.profile))


def _is_local(incus: Incus) -> bool:
    return incus.remote in {None, "local"}


def _report(incus: Incus, need: Requirement, finding: Finding) -> Report:
    commands = [join(_aimed(incus, argv)) for argv in finding.fix]
    remedies = (*commands, *finding.advice.splitlines())
    return Report(need.name, finding, remedies, need.drivers)


def _unmet(need: Requirement, finding: Finding) -> errors.Unsupported:
    return errors.Unsupported(
        f"{need.name}: {finding.detail}", resolution=finding.advice
    )
