# SPDX-License-Identifier: GPL-3.0-or-later
"""Check and set up a machine so that testbeds run on it.

There is one list of requirements: doctor() checks it, setup() meets it.
Nothing is printed here.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from shlex import join

from incus_testbed.host import (
    card,
    cluster,
    firewall,
    fixes,
    images,
    network,
    pool,
    profile,
    remedy,
    restricted,
    separation,
    server,
    service,
    user,
    vm,
)
from incus_testbed.host import local as host_local
from incus_testbed.host.acl import AS_BEFORE, Access
from incus_testbed.host.names import Names
from incus_testbed.host.requirement import (
    ALL,
    CONTAINERS,
    MACHINES,
    Finding,
    Requirement,
    State,
)
from incus_testbed.host.use import names_in_use
from incus_testbed.incus.client import Incus

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
    with incus.asking_once():
        needs = [*_requirements(incus, names), *cluster.requirements(incus)]
        if incus.is_local():
            needs += service.requirements()
        return list(_reports(incus, needs))


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


def obstacles(incus: Incus, *, driver: str) -> list[str]:
    """Return the reasons why instances of a driver can't run here, one a line.

    ``driver`` is Incus's name: lxc for containers, qemu for virtual machines.
    Only the requirements of that driver are checked, as the current user.
    """
    with incus.asking_once():
        lines = [
            f"{report.requirement}: {report.finding.detail}"
            for report in _reports(
                incus,
                [
                    need
                    for need in _requirements(incus)
                    if driver in need.drivers
                ],
            )
            if report.is_obstacle(driver)
        ]
    if not lines and driver not in server.drivers(incus):
        if driver != MACHINES:
            return [f"Incus server: its driver {driver} does not work"]
        finding = vm.check(incus, local=incus.is_local())
        lines.append(f"virtual machines: {finding.detail}")
    return lines


def setup(
    incus: Incus,
    names: Names | None = None,
    *,
    access: Access = AS_BEFORE,
    dry_run: bool = False,
) -> Iterator[tuple[str, ...]]:
    """Meet every requirement that a command can meet, and let services in.

    ``access`` says what testbeds shall reach.  Yields each command line just
    before it is run; ``dry_run`` runs none.  Yields nothing if there is nothing
    to do.

    :raises errors.Unsupported: no command can meet a requirement, or its
        command did not help; says what a person can do
    """
    names = names or names_in_use(incus)
    for need in _requirements(incus, names, access):
        yield from remedy.apply(incus, need, dry_run=dry_run)
    if incus.is_local():
        for name in service.unadmitted():
            yield from user.admit(
                incus, name, new_pool=names.pool, dry_run=dry_run
            )


def _requirements(
    incus: Incus, names: Names | None = None, access: Access = AS_BEFORE
) -> list[Requirement]:
    """Return all requirements, in the order in which they can be met."""
    local = incus.is_local()
    names = names or names_in_use(incus)
    confined = restricted.is_confined(incus)
    needs = [
        *_of_machine(local=local),
        Requirement(_SERVER, partial(server.check, incus), ALL),
        *_of_incus(incus, names, local=local, confined=confined),
    ]
    if not confined:
        needs += separation.requirements(
            incus,
            incus,
            names.profile,
            network_name=names.network,
            pool_name=names.pool,
            access=access,
            local=local,
        )
    return needs


def _of_machine(*, local: bool) -> Iterator[Requirement]:
    """Yield the requirements of this machine that don't concern Incus."""
    yield Requirement("programs", host_local.check_programs, ALL)
    yield Requirement("sandbox", host_local.check_sandbox)
    if local:
        yield Requirement("kernel limits", host_local.check_limits)
        yield Requirement("security fixes", fixes.check)


def _of_incus(
    incus: Incus, names: Names, *, local: bool, confined: bool
) -> Iterator[Requirement]:
    """Yield the requirements that can be checked once Incus answers.

    ``confined``: Incus keeps this user to a project.
    """

    def need(
        name: str, check: Callable[[], Finding], *drivers: str
    ) -> Requirement:
        return Requirement(name, check, frozenset(drivers), asks_server=True)

    if local:
        # Installing Incus gives root its ids.
        yield need("user ids", host_local.check_ids, CONTAINERS)
        yield need("nft", partial(firewall.check_program, incus), *ALL)
    if confined:
        yield need(
            "restricted project",
            partial(restricted.check, incus, names.network, names.pool),
            *ALL,
        )
    else:
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
                None
                if confined
                else network.managed(incus, names.network, local=local)
            ),
            pool=names.pool,
            raw=not restricted.forbids_raw(incus),
        ),
        *ALL,
    )
    # The profile made by the script of Debusine before 0.14.5 lacks this.
    yield need(
        "nested containers",
        partial(profile.check_nesting, incus, names.profile),
    )
    yield need(
        f"profile {names.vm_profile}",
        partial(
            profile.check_for_vms,
            incus,
            names.vm_profile,
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
    else:
        yield need("image compression", partial(server.check_unpacking, incus))
    yield need(
        "profile of images", partial(images.check_choice, incus, names.profile)
    )
    yield need("images", partial(images.check, incus, names.profile))


def _report(incus: Incus, need: Requirement, finding: Finding) -> Report:
    commands = [join(remedy.aimed(incus, argv)) for argv in finding.fix]
    remedies = (*commands, *finding.advice.splitlines())
    return Report(need.name, finding, remedies, need.drivers)
