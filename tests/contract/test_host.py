# SPDX-License-Identifier: GPL-3.0-or-later
"""Setting up a host: the same on a fake and on a real Incus."""

import dataclasses
import os
from collections.abc import Iterator, Mapping
from ipaddress import ip_address, ip_interface

import pytest

from incus_testbed import errors
from incus_testbed.host import doctor, subnet
from incus_testbed.image import profiles
from incus_testbed.incus.client import Incus
from tests.support.fake_incus import FakeIncus
from tests.support.sandbox import Sandbox

_SANDBOX = Sandbox.of(f"h{os.getpid()}")
_NAMES = _SANDBOX.names
_ACL_OF_ADMIN = f"mine-{os.getpid()}"
_PROXY = doctor.Access(allowed=((ip_address("192.0.2.1"), 3142),))


@pytest.fixture(params=["fake", "real"])
def incus(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Incus]:
    """Give an Incus with nothing set up."""
    if request.param == "fake":
        # The machine's own has other pools.
        monkeypatch.setenv("INCUS_DIR", "/var/lib/incus-of-no-test")
        yield FakeIncus()
        return
    request.getfixturevalue("incus_daemon")
    _SANDBOX.create_project()
    yield Incus(project=_SANDBOX.project)
    _SANDBOX.remove()


@pytest.fixture(autouse=True)
def _same_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the machine keep its addresses, whatever else runs on it."""
    monkeypatch.setattr(subnet, "addresses", lambda: ["127.0.0.1", "192.0.2.9"])


def _states(incus: Incus) -> dict[str, doctor.State]:
    return {
        report.requirement: report.finding.state
        for report in doctor.doctor(incus, _NAMES)
    }


def _setup(incus: Incus) -> list[tuple[str, ...]]:
    return list(doctor.setup(incus, _NAMES))


def test_doctor_names_what_is_absent_and_the_command(incus: Incus) -> None:
    reports = {
        report.requirement: report for report in doctor.doctor(incus, _NAMES)
    }

    for requirement, command in (
        (f"network {_NAMES.network}", "network create"),
        (f"storage pool {_NAMES.pool}", "storage create"),
        (f"profile {_NAMES.profile}", "profile create"),
    ):
        report = reports[requirement]
        assert report.finding.state is doctor.State.FAILED
        assert report.remedies[0].startswith("incus ")
        assert command in report.remedies[0]


def test_dry_run_says_what_setup_does_and_does_nothing(incus: Incus) -> None:
    before = _states(incus)

    planned = list(doctor.setup(incus, _NAMES, dry_run=True))

    assert _states(incus) == before
    assert _without_size(_setup(incus)) == _without_size(planned)


def _without_size(commands: list[tuple[str, ...]]) -> list[list[str]]:
    """Leave out the pool's size: the disk may fill meanwhile."""
    return [
        [word for word in command if not word.startswith("size=")]
        for command in commands
    ]


def test_setup_meets_what_doctor_asks(incus: Incus) -> None:
    _setup(incus)

    assert doctor.State.FAILED not in _states(incus).values()


def test_setup_makes_what_the_specification_says(incus: Incus) -> None:
    _setup(incus)

    profile = incus.profile(_NAMES.profile)
    assert profile["config"]["raw.lxc"] == "lxc.mount.auto=sys"
    assert profile["config"]["security.nesting"] == "true"
    wanted = {
        "eth0": {"name": "host0", "network": _NAMES.network, "type": "nic"},
        "root": {"path": "/", "pool": _NAMES.pool, "type": "disk"},
    }
    assert profile["devices"].keys() == wanted.keys()
    for name, device in wanted.items():
        assert device.items() <= profile["devices"][name].items()
    pools = {pool["name"]: pool["driver"] for pool in incus.pools()}
    assert pools[_NAMES.pool] == "btrfs"


def test_setup_again_has_nothing_to_do(incus: Incus) -> None:
    _setup(incus)

    assert _setup(incus) == []


def test_setup_mends_the_profile_and_keeps_what_was_added(
    incus: Incus,
) -> None:
    _setup(incus)
    name = _NAMES.profile
    added = "lxc.log.level = 1"
    incus.run("profile", "set", name, f"raw.lxc={added}", "limits.cpu=2")
    incus.run("profile", "device", "set", name, "eth0", "name=other0")
    incus.run("profile", "device", "remove", name, "root")

    _setup(incus)

    profile = incus.profile(name)
    assert profile["config"]["raw.lxc"] == f"{added}\nlxc.mount.auto=sys"
    assert profile["config"]["limits.cpu"] == "2"
    assert profile["devices"]["eth0"]["name"] == "host0"
    assert profile["devices"]["root"]["pool"] == _NAMES.pool


def _profile(incus: Incus, name: str, *commands: str) -> None:
    """Make a profile by incus' own commands, as somebody else did."""
    incus.run("profile", "create", name)
    for command in commands:
        verb, *words = command.split()
        more = [words.pop(0)] if verb == "device" else []
        incus.run("profile", verb, *more, name, *words)


def _made_by_debusine(incus: Incus, *more: str) -> None:
    """Make the profile as Debusine's configure-worker-incus.sh does."""
    _network_and_pool(incus)
    _profile(
        incus,
        _NAMES.profile,
        "set raw.lxc=lxc.mount.auto=sys",
        "set security.secureboot=false",
        f"device add host0 nic network={_NAMES.network} name=host0",
        f"device add root disk pool={_NAMES.pool} path=/",
        *more,
    )


def _network_and_pool(incus: Incus) -> None:
    """Have a network and a pool, and no profile."""
    _setup(incus)
    for name in (_NAMES.profile, _NAMES.vm_profile):
        incus.run("profile", "delete", name)


def test_the_profile_of_debusines_own_script_is_right(incus: Incus) -> None:
    _made_by_debusine(incus, "set security.nesting=true")
    before = incus.profile(_NAMES.profile)

    assert doctor.obstacles(incus, driver="lxc") == []
    _setup(incus)

    after = incus.profile(_NAMES.profile)
    assert before["config"].items() <= after["config"].items()
    assert before["devices"].keys() == after["devices"].keys()
    for name, device in before["devices"].items():
        assert device.items() <= after["devices"][name].items()
    assert _setup(incus) == []


def test_the_profile_of_an_older_script_gets_what_it_lacks(
    incus: Incus,
) -> None:
    _made_by_debusine(incus)
    # A worker goes on offering what it did before.
    assert doctor.obstacles(incus, driver="lxc") == []

    _setup(incus)

    config = incus.profile(_NAMES.profile)["config"]
    assert config["security.nesting"] == "true"
    assert config["security.secureboot"] == "false"


def test_a_profile_with_two_cards_of_one_name_is_mended(incus: Incus) -> None:
    """An earlier setup added eth0 beside Debusine's host0."""
    network = _NAMES.network
    _made_by_debusine(
        incus, f"device add eth0 nic network={network} name=host0"
    )
    reports = {
        report.requirement: report for report in doctor.doctor(incus, _NAMES)
    }
    assert reports[f"profile {_NAMES.profile}"].is_obstacle("lxc")

    _setup(incus)

    devices = incus.profile(_NAMES.profile)["devices"]
    assert devices.keys() == {"host0", "root"}
    assert devices["host0"]["network"] == network
    assert _setup(incus) == []


def test_two_cards_of_one_name_by_an_admin_are_the_admins_choice(
    incus: Incus,
) -> None:
    network = _NAMES.network
    _made_by_debusine(
        incus, f"device add mine nic network={network} name=host0"
    )

    with pytest.raises(errors.Unsupported, match="host0 and mine"):
        _setup(incus)


def test_an_admins_devices_and_choices_stay(incus: Incus) -> None:
    _network_and_pool(incus)
    _profile(
        incus,
        _NAMES.profile,
        "set security.nesting=false",
        "set limits.memory=2GiB",
        f"device add wire nic network={_NAMES.network} name=host0",
        f"device add system disk pool={_NAMES.pool} path=/ size=9GiB",
        f"device add second nic network={_NAMES.network} name=other",
    )
    devices = incus.profile(_NAMES.profile)["devices"]

    _setup(incus)

    profile = incus.profile(_NAMES.profile)
    assert profile["devices"].keys() == devices.keys()
    for name, device in devices.items():
        assert device.items() <= profile["devices"][name].items()
    assert profile["devices"]["second"] == devices["second"]
    assert profile["config"]["security.nesting"] == "false"
    assert profile["config"]["limits.memory"] == "2GiB"
    # Two root disks would not go together.
    machines = incus.profile(_NAMES.vm_profile)["devices"]
    assert machines.keys() == {"system"}
    assert _setup(incus) == []


def test_a_card_without_the_name_gets_it(incus: Incus) -> None:
    _network_and_pool(incus)
    _profile(
        incus,
        _NAMES.profile,
        f"device add nic0 nic network={_NAMES.network}",
    )

    _setup(incus)

    devices = incus.profile(_NAMES.profile)["devices"]
    assert devices["nic0"]["name"] == "host0"
    assert "eth0" not in devices


def test_names_are_those_that_the_profile_uses(incus: Incus) -> None:
    _setup(incus)

    assert doctor.names_in_use(incus, _NAMES.profile) == _NAMES


def test_images_get_the_profile_that_was_set_up(incus: Incus) -> None:
    assert profiles.chosen(incus) == "debusine"

    list(doctor.setup(incus, dataclasses.replace(_NAMES, profile="mine")))

    assert profiles.chosen(incus) == "mine"
    assert doctor.names_in_use(incus).profile == "mine"
    assert doctor.names_in_use(incus).network == _NAMES.network


def test_virtual_machines_are_no_matter_to_containers(incus: Incus) -> None:
    _setup(incus)
    incus.run("profile", "delete", _NAMES.vm_profile)

    assert doctor.obstacles(incus, driver="lxc") == []
    (first, *_) = doctor.obstacles(incus, driver="qemu")
    assert _NAMES.vm_profile in first


def test_an_unmanaged_interface_is_left_alone(incus: Incus) -> None:
    # Incus lists the host's own interfaces, and never creates or touches them.
    name = next(
        network["name"]
        for network in incus.networks()
        if not network["managed"]
    )
    names = doctor.Names(network=name, pool=_NAMES.pool)

    reports = {
        report.requirement: report for report in doctor.doctor(incus, names)
    }

    finding = reports[f"network {name}"].finding
    assert finding.state is doctor.State.FAILED
    assert "--network" in finding.advice
    assert not finding.fix


def test_setup_separates_testbeds(incus: Incus) -> None:
    _setup(incus)

    card = incus.profile(_NAMES.profile)["devices"]["eth0"]
    for key in ("port_isolation", "mac_filtering", "ipv4_filtering"):
        assert card[f"security.{key}"] == "true"
    (network,) = _networks(incus)
    assert network["security.acls"] == f"testbeds-{_NAMES.network}"
    assert network["security.acls.default.egress.action"] == "reject"


def _networks(incus: Incus) -> list[dict[str, str]]:
    """Return the configuration of the network that setup has made."""
    return [
        network["config"]
        for network in incus.networks()
        if network["name"] == _NAMES.network
    ]


def test_settings_that_an_admin_has_chosen_stay(incus: Incus) -> None:
    _setup(incus)
    name = _NAMES.profile
    card = ("profile", "device", "set", name, "eth0")
    incus.run(*card, "security.port_isolation=false")
    incus.run("profile", "set", name, "security.idmap.isolated=false")
    incus.run("profile", "set", name, "limits.memory=100%")
    incus.run("profile", "device", "set", name, "root", "size=1GiB")
    before = incus.profile(name)

    assert _setup(incus) == []

    assert incus.profile(name) == before


def test_an_admin_can_do_without_limits_and_acl(incus: Incus) -> None:
    _network_and_pool(incus)
    network = _NAMES.network
    incus.run("network", "unset", network, "security.acls")
    incus.run("network", "set", network, "user.incus-testbed.acl=none")
    _profile(incus, _NAMES.profile, "set user.incus-testbed.limits=none")

    _setup(incus)

    assert "security.acls" not in _networks(incus)[0]
    profile = incus.profile(_NAMES.profile)
    assert not any(key.startswith("limits.") for key in profile["config"])
    assert "size" not in profile["devices"]["root"]


def test_an_acl_of_the_admin_stays(incus: Incus) -> None:
    _setup(incus)
    incus.run("network", "acl", "create", _ACL_OF_ADMIN)
    acl = f"security.acls={_ACL_OF_ADMIN}"
    incus.run("network", "set", _NAMES.network, acl)
    try:
        assert _setup(incus) == []
        with pytest.raises(errors.Unsupported, match=_ACL_OF_ADMIN):
            list(doctor.setup(incus, _NAMES, access=_PROXY))
        assert _networks(incus)[0]["security.acls"] == _ACL_OF_ADMIN
    finally:
        incus.run("network", "unset", _NAMES.network, "security.acls")
        incus.run("network", "acl", "delete", _ACL_OF_ADMIN)


def test_what_an_admin_allows_stays(incus: Incus) -> None:
    _setup(incus)
    acl = f"testbeds-{_NAMES.network}"
    list(doctor.setup(incus, _NAMES, access=_PROXY))
    list(doctor.setup(incus, _NAMES, access=doctor.Access(private=False)))
    closed = incus.network_acl(acl)

    assert _setup(incus) == []

    assert incus.network_acl(acl) == closed
    (out, allowed) = sorted(
        closed["egress"], key=lambda rule: "protocol" in rule
    )
    assert (allowed["destination"], allowed["destination_port"]) == (
        *("192.0.2.1", "3142"),
    )
    assert not _opens(out, "10.0.0.1")
    list(doctor.setup(incus, _NAMES, access=doctor.Access(private=True)))
    opened = incus.network_acl(acl)["egress"]
    assert allowed in opened
    # Still not the testbeds' own network.
    bridge = ip_interface(_networks(incus)[0]["ipv4.address"])
    for rule in opened:
        assert not _opens(rule, str(bridge.ip))


def _opens(rule: Mapping[str, str], address: str) -> bool:
    """Tell whether a rule opens an address."""
    ranges = (word.partition("-") for word in rule["destination"].split(","))
    return any(
        int(ip_address(low)) <= int(ip_address(address))
        and int(ip_address(address)) <= int(ip_address(high or low))
        for low, _, high in ranges
    )


def test_doctor_notices_a_new_address_of_the_host(
    incus: Incus, monkeypatch: pytest.MonkeyPatch
) -> None:
    _setup(incus)
    addresses = [*subnet.addresses(), "203.0.113.9"]
    monkeypatch.setattr(subnet, "addresses", lambda: addresses)

    assert _states(incus)["network access"] is doctor.State.FAILED
    _setup(incus)

    assert _states(incus)["network access"] is doctor.State.GOOD
    (out,) = incus.network_acl(f"testbeds-{_NAMES.network}")["egress"]
    assert not _opens(out, "203.0.113.9")
    assert _opens(out, "203.0.113.8")


def test_what_a_server_says_of_its_networks(incus: Incus) -> None:
    _setup(incus)
    (config,) = _networks(incus)
    address = str(ip_interface(config["ipv4.address"]).ip)

    assert address in incus.network_addresses(_NAMES.network)
    assert incus.network_addresses("absent0") == []
    with pytest.raises(errors.NotFound):
        incus.network_acl("absent")
    with pytest.raises(errors.NotFound):
        incus.run("network", "set", _NAMES.network, "security.acls=absent")
    assert all(
        {"type", "status"} <= warning.keys() for warning in incus.warnings()
    )
