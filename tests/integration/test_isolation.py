# SPDX-License-Identifier: GPL-3.0-or-later
"""What a testbed reaches on its network: what it needs, and nothing else.

Each attempt is made twice: on a network and with a card as Incus makes them
without further settings, where it has to succeed, and on those of setup.
"""

import secrets
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from ipaddress import ip_address
from pathlib import Path

import pytest

from incus_testbed.host import doctor
from incus_testbed.image import profiles
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance
from tests.integration.conftest import Cli
from tests.support import attempts, outside
from tests.support.sandbox import Sandbox, delete, make_network

SYSTEM = ("trixie", ("python3-minimal",))
_SCRIPT = Path(attempts.__file__)
_THERE = "/root/attempts.py"
_DOCUMENT = Path(__file__).resolve().parents[2] / "docs/explanation/security.md"
#: Seconds for a router's advertisement.
_PATIENCE = 60
#: Seconds in which a frame arrives; it is sent within half a second.
_WATCH = "4"


@dataclass(frozen=True)
class Place:
    """A testbed and its neighbour on one network."""

    testbed: Instance
    neighbour: Instance
    bridge: str

    @property
    def gateway(self) -> str:
        """The host's address on the bridge."""
        return _addresses(self.bridge, "-4")[0]

    @property
    def neighbours_address(self) -> str:
        """The neighbour's address."""
        return _says(self.neighbour, "address")

    def says(self, *words: str) -> str:
        """Return what an attempt in the testbed prints."""
        return _says(self.testbed, *words)

    def hears(self, *words: str, host: bool = False) -> str:
        """Tell whether a frame of the testbed reaches its neighbour, or us."""
        mark = secrets.token_hex(4)
        watch = (
            [sys.executable, str(_SCRIPT), "watch", self.bridge]
            if host
            else self.neighbour.guest.exec_argv(
                ["python3", _THERE, "watch", "host0"]
            )
        )
        with subprocess.Popen(
            [*watch, mark, _WATCH], stdout=subprocess.PIPE, text=True
        ) as watching:
            assert watching.stdout
            assert watching.stdout.readline() == "watching\n"
            self.says(*words, mark)
            return watching.communicate(timeout=60)[0].strip()


def _addresses(interface: str, family: str, *selector: str) -> list[str]:
    """Return the addresses of an interface of the host."""
    said = subprocess.check_output(
        [
            "ip",
            "-brief",
            family,
            "address",
            "show",
            "dev",
            interface,
            *selector,
        ],
        text=True,
    )
    return [word.partition("/")[0] for word in said.split()[2:]]


def _says(instance: Instance, *words: str) -> str:
    done = instance.guest.run(
        ["python3", _THERE, *words],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    said: str = done.stdout.strip()
    return said


#: What is tried, how, and whether setup leaves it open.
_ATTEMPTS: dict[str, tuple[Callable[[Place], str], str]] = {
    "an address by DHCP": (lambda at: at.says("dhcp"), "open"),
    "names, from the bridge's name server": (
        lambda at: at.says("dns", at.gateway),
        "open",
    ),
    "a machine beyond the host": (
        lambda at: at.says("tcp", outside.WORLD),
        "open",
    ),
    "a neighbour's service, TCP": (
        lambda at: at.says("tcp", at.neighbours_address),
        "closed",
    ),
    "a neighbour's service, UDP": (
        lambda at: at.says("udp", at.neighbours_address),
        "closed",
    ),
    "a service of the host, at the bridge's address, TCP": (
        lambda at: at.says("tcp", at.gateway),
        "closed",
    ),
    "a service of the host, at the bridge's address, UDP": (
        lambda at: at.says("udp", at.gateway),
        "closed",
    ),
    "a service of the host, at another address": (
        lambda at: at.says("tcp", outside.HOST),
        "closed",
    ),
    "169.254.169.254, a cloud's metadata": (
        lambda at: at.says("tcp", outside.METADATA),
        "closed",
    ),
    "to the host, with the MAC address of another": (
        lambda at: at.hears("spoofed-mac", host=True),
        "closed",
    ),
    "to the host, with the IPv4 address of a neighbour": (
        lambda at: at.hears("spoofed-ipv4", at.neighbours_address, host=True),
        "closed",
    ),
    "to a neighbour, with the MAC address of another": (
        lambda at: at.hears("spoofed-mac"),
        "closed",
    ),
    "to a neighbour: ARP as the gateway": (
        lambda at: at.hears("gateways-arp", at.gateway),
        "closed",
    ),
    "to the host: ARP as a neighbour": (
        lambda at: at.hears("gateways-arp", at.neighbours_address, host=True),
        "closed",
    ),
    "to a neighbour: DHCP as a server": (
        lambda at: at.hears("rogue-dhcp"),
        "closed",
    ),
    "to a neighbour: IPv6 as a router": (
        lambda at: at.hears("router"),
        "closed",
    ),
}


@pytest.fixture(scope="module")
def world() -> Iterator[None]:
    with outside.services():
        yield


@pytest.fixture(scope="module")
def system(image: Callable[..., str]) -> str:
    suite, packages = SYSTEM
    return image(suite, *packages)


def _place(
    incus: Incus, image: str, bridge: str, *arguments: str
) -> Iterator[Place]:
    with (
        Instance.launch(
            incus, image, purpose="test", arguments=arguments
        ) as testbed,
        Instance.launch(
            incus, image, purpose="test", arguments=arguments
        ) as neighbour,
    ):
        for instance in (testbed, neighbour):
            instance.wait_ready()
            instance.guest.files.push(str(_SCRIPT), _THERE)
        serve = ["systemd-run", "--quiet", "python3", _THERE, "serve"]
        neighbour.guest.run(serve, check=True)
        while _says(neighbour, "tcp", "127.0.0.1") != "open":
            pass
        yield Place(testbed, neighbour, bridge)


@pytest.fixture(scope="module")
def mended(
    incus: Incus, incus_environment: Sandbox, system: str, world: None
) -> Iterator[Place]:
    """Give testbeds on the network that setup has made."""
    del world
    # Since the network was made, the host has got another address.
    _setup(incus, incus_environment.names)
    yield from _place(incus, system, incus_environment.names.network)


def _setup(
    incus: Incus, names: doctor.Names, access: doctor.Access = doctor.AS_BEFORE
) -> None:
    for _ in doctor.setup(incus, names, access=access):
        pass


@pytest.fixture(scope="module")
def plain(
    incus: Incus, incus_environment: Sandbox, system: str, world: None
) -> Iterator[Place]:
    """Give testbeds on a network without further settings."""
    del world
    mine = incus_environment.names
    bridge, profile = f"{mine.network}p", "plain"
    make_network(
        bridge,
        *("ipv4.address=10.213.78.1/24", "ipv4.nat=true", "ipv6.address=none"),
    )
    try:
        incus.run("profile", "create", profile)
        add = ("profile", "device", "add", profile)
        incus.run(*add, "eth0", "nic", f"network={bridge}", "name=host0")
        incus.run(*add, "root", "disk", f"pool={mine.pool}", "path=/")
        incus.run("profile", "set", profile, "raw.lxc=lxc.mount.auto=sys")
        yield from _place(incus, system, bridge, f"--profile={profile}")
    finally:
        incus.run("profile", "delete", profile)
        delete("network", bridge)


@pytest.mark.parametrize("attempt", _ATTEMPTS)
def test_setup_closes_what_a_testbed_does_not_need(
    mended: Place, attempt: str
) -> None:
    act, outcome = _ATTEMPTS[attempt]
    assert act(mended) == outcome


@pytest.mark.parametrize("attempt", _ATTEMPTS)
def test_without_setup_all_is_open(plain: Place, attempt: str) -> None:
    """Otherwise the attempt is not worth anything."""
    act, _ = _ATTEMPTS[attempt]
    assert act(plain) == "open"


def test_private_addresses_are_closed_if_the_admin_wants_that(
    incus: Incus, incus_environment: Sandbox, mended: Place
) -> None:
    assert mended.says("tcp", outside.PRIVATE) == "open"

    _setup(incus, incus_environment.names, doctor.Access(private=False))
    try:
        assert mended.says("tcp", outside.PRIVATE) == "closed"
        assert mended.says("tcp", outside.WORLD) == "open"
        assert mended.says("dns", mended.gateway) == "open"
    finally:
        _setup(incus, incus_environment.names, doctor.Access(private=True))
    assert mended.says("tcp", outside.PRIVATE) == "open"


def test_a_service_that_the_admin_allows_is_open(
    incus: Incus, incus_environment: Sandbox, mended: Place
) -> None:
    _setup(
        incus,
        incus_environment.names,
        doctor.Access(
            private=False,
            allowed=(
                (ip_address(outside.PRIVATE), attempts.PORT),
                (ip_address(outside.HOST), attempts.PORT),
            ),
        ),
    )
    _setup(incus, incus_environment.names)

    assert mended.says("tcp", outside.PRIVATE) == "open"
    assert mended.says("tcp", outside.HOST) == "open"
    assert mended.says("tcp", mended.gateway) == "closed"


def test_apt_reaches_its_mirror(mended: Place) -> None:
    done = mended.testbed.guest.run(
        ["apt-get", "update", "--error-on=any"],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr


def test_without_a_network_nothing_is_reached(
    incus: Incus, system: str, world: None
) -> None:
    del world
    with Instance.launch(
        incus, system, purpose="test", network=False
    ) as instance:
        ready = instance.wait_ready(60)
        assert (ready.state, ready.network) == ("running", "none")
        instance.guest.files.push(str(_SCRIPT), _THERE)
        assert _says(instance, "tcp", outside.WORLD) == "closed"


@pytest.fixture(scope="module")
def with_ipv6(
    incus: Incus, incus_environment: Sandbox, system: str, world: None
) -> Iterator[Place]:
    """Give testbeds on a network that has IPv6 too, set up."""
    del world
    mine = incus_environment.names
    names = replace(mine, network=f"{mine.network}s", profile="six")
    make_network(
        names.network,
        *("ipv4.address=10.213.79.1/24", "ipv4.nat=true"),
        *("ipv6.address=fd12:34::1/64", "ipv6.nat=true"),
    )
    try:
        _setup(incus, names)
        for place in _place(
            incus, system, names.network, f"--profile={names.profile}"
        ):
            # A testbed is ready as soon as it has an IPv4 address.
            deadline = time.monotonic() + _PATIENCE
            while place.says("tcp", outside.WORLD6) != "open":
                assert time.monotonic() < deadline, "it gets no IPv6 address"
            yield place
    finally:
        incus.run("project", "unset", incus.current_project(), profiles.KEY)
        for name in (names.profile, names.vm_profile):
            incus.run("profile", "delete", name)
        delete("network", names.network)
        delete("network acl", f"testbeds-{names.network}")


@pytest.mark.parametrize(
    ("attempt", "outcome"),
    [
        ("tcp fd12:34::1", "closed"),
        ("udp fd12:34::1", "closed"),
        ("dns fd12:34::1", "open"),
        (f"tcp {outside.HOST6}", "closed"),
    ],
)
def test_ipv6_is_closed_too(
    with_ipv6: Place, attempt: str, outcome: str
) -> None:
    assert with_ipv6.says(*attempt.split()) == outcome


def test_the_hosts_link_local_address_is_closed(with_ipv6: Place) -> None:
    (address,) = _addresses(with_ipv6.bridge, "-6", "scope", "link")
    assert with_ipv6.says("tcp", f"{address}%host0") == "closed"


def test_the_command_has_an_option_for_that(cli: Cli, system: str) -> None:
    said = cli.output(
        *("run", "--network", "none", system, "--", "ls", "/sys/class/net")
    )
    assert said == "lo\n"


def test_the_security_document_says_so() -> None:
    table = "".join(
        f"| {attempt} | open | {outcome} |\n"
        for attempt, (_, outcome) in _ATTEMPTS.items()
    )
    assert table in _DOCUMENT.read_text()
