# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines as others set them up: doctor names what is wrong, and mends it.

Each thing is broken for real in a guest, and mended with the commands that
doctor prints.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from tests.e2e import guest, packages
from tests.e2e.guest import Guest
from tests.support import images

_VIRT = "/opt/virt"
_USER = "tester"

#: What an Incus, and incus-testbed from a checkout, need.
_BASE = (
    *("btrfs-progs", "bubblewrap", "bzip2", "dnsmasq-base", "incus-base"),
    *("incus-client", "iproute2", "nftables", "procps", "python3-debian"),
    *("python3-sh", "python3-yaml", "xz-utils", "zstd"),
)
_FIREWALLS = ("docker.io", "firewalld", "iptables", "ufw")

#: Seconds for a guest that will not get an address.
_BOOT_LIMIT = 8

#: What setup would do.
_NETWORK = (
    "incus network create testbr0 ipv4.address=10.11.12.1/24 ipv4.nat=true"
    " ipv6.address=none 2>&1"
)

#: Limits of the kernel; it has one for all, so files stand for them.
_LIMITS = (
    "fs/inotify/max_user_instances",
    "fs/inotify/max_user_watches",
    "kernel/keys/maxbytes",
    "kernel/keys/maxkeys",
)


@dataclass(frozen=True, kw_only=True)
class Firewall:
    """How a firewall is put in the way, and taken away again."""

    name: str
    start: str
    stop: str
    hides_dhcp: bool = True


#: Where Incus has turned forwarding on before Docker starts, Docker leaves the
#: policy alone: here it is first, as on a machine that boots.
_DOCKER = Firewall(
    name="Docker",
    start="sysctl -qw net.ipv4.ip_forward=0; systemctl start docker",
    stop="systemctl stop docker docker.socket; iptables -P FORWARD ACCEPT\n"
    "for table in filter nat; do\n"
    "iptables -t $table -F; iptables -t $table -X; done\n"
    "ip link delete docker0; sysctl -qw net.ipv4.ip_forward=1",
    hides_dhcp=False,
)
_UFW = Firewall(
    name="UFW", start="ufw --force enable", stop="ufw --force reset"
)
_FIREWALLD = Firewall(
    name="firewalld",
    # It can be started before its rules are loaded.
    start="systemctl start firewalld; timeout 60 sh -c"
    " 'until nft list table inet firewalld; do sleep 0.2; done'",
    stop="firewall-cmd --permanent --zone=trusted"
    " --remove-interface=debusinebr0; systemctl stop firewalld",
)


def _sh(machine: Guest, script: str) -> str:
    return machine.run("sh", "-euc", f"export PYTHONPATH={_VIRT}\n{script}")


def _doctor(machine: Guest, *, user: str = "root") -> str:
    return _sh(
        machine,
        f"runuser -u {user} -- env --chdir=/ PYTHONPATH={_VIRT}"
        " python3 -m incus_testbed doctor || test $? = 1",
    )


def _found(said: str, requirement: str) -> str:
    """Return what doctor said of a requirement: its line of the table."""
    (line,) = re.findall(rf"^(.*\S +{requirement} .*)$", said, re.MULTILINE)
    print(line)
    return str(line)


def _remedies(said: str, requirement: str) -> str:
    """Return the commands that doctor printed for a requirement."""
    _, _, after = said.partition(f"\n{requirement}:\n")
    commands = after.partition("\n\n")[0]
    print(commands)
    return commands


def _reach_out(machine: Guest) -> str:
    """Have a testbed reach the network of the machine that it is on."""
    (gateway,) = re.findall(
        r"via (\S+)", machine.run("ip", "route", "show", "default")
    )
    return _sh(
        machine,
        f"INCUS_TESTBED_BOOT_LIMIT={_BOOT_LIMIT}"
        " python3 -m incus_testbed run plain --"
        f" timeout 5 bash -c 'exec 3<>/dev/tcp/{gateway}/53' 2>&1",
    )


def _set_up(machine: Guest) -> None:
    machine.push(packages.ROOT / "virt", str(Path(_VIRT).parent))
    _sh(machine, f"useradd --create-home --groups incus-admin {_USER}")


@pytest.fixture(scope="module")
def machine(
    incus_environment: object, raised_kernel_limits: None
) -> Iterator[Guest]:
    """Give a machine with three firewalls, all off, and an Incus in use."""
    del incus_environment, raised_kernel_limits
    with guest.running(Incus(), "trixie", (*_BASE, *_FIREWALLS)) as found:
        _set_up(found)
        for firewall in (_FIREWALLD, _DOCKER):
            _sh(found, f"set +e; {firewall.stop}; true")
        image = images.build("bookworm")
        found.push(image, "/opt")
        _sh(
            found,
            "python3 -m incus_testbed setup\n"
            f"python3 -m incus_testbed import --alias plain /opt/{image.name}",
        )
        yield found


@pytest.fixture(params=[_DOCKER, _UFW, _FIREWALLD], ids=lambda each: each.name)
def firewall(
    request: pytest.FixtureRequest, machine: Guest
) -> Iterator[Firewall]:
    """Have a firewall on for a while."""
    assert isinstance(request.param, Firewall)
    _sh(machine, request.param.start)
    try:
        yield request.param
    finally:
        _sh(machine, f"set +e; {request.param.stop}; true")


def test_firewall(machine: Guest, firewall: Firewall) -> None:
    said = _doctor(machine)
    found = _found(said, "firewall")
    assert found.startswith("failed")
    assert f"{firewall.name} drops packets from debusinebr0" in found

    with pytest.raises(errors.CommandFailed) as caught:
        _reach_out(machine)
    cause = f"The most likely cause: {firewall.name} drops"
    offline = "its network 'offline'" in caught.value.details
    assert offline == firewall.hides_dhcp
    assert (cause in caught.value.details) == firewall.hides_dhcp

    unseen = _found(_doctor(machine, user=_USER), "firewall")
    assert unseen.startswith("note")
    assert f"{firewall.name} may drop" in unseen

    commands = _remedies(said, "firewall")
    if firewall.hides_dhcp:
        assert all(
            line in caught.value.details for line in commands.splitlines()
        )
    _sh(machine, commands)

    assert _found(_doctor(machine), "firewall").startswith("ok")
    _reach_out(machine)


def test_no_firewall(machine: Guest) -> None:
    for user in ("root", _USER):
        said = _doctor(machine, user=user)
        assert _found(said, "firewall").startswith("ok")


def test_limits_of_the_kernel(machine: Guest) -> None:
    files = [f"/proc/sys/{name}" for name in _LIMITS]
    _sh(
        machine,
        "\n".join(
            f"echo 10 >/run/{number}; mount --bind /run/{number} {file}"
            for number, file in enumerate(files)
        ),
    )
    try:
        said = _doctor(machine)
        found = _found(said, "kernel limits")
        assert found.startswith("warning")
        assert all(name.replace("/", ".") in found for name in _LIMITS)

        _sh(machine, _remedies(said, "kernel limits"))

        assert _found(_doctor(machine), "kernel limits").startswith("ok")
    finally:
        _sh(machine, f"umount {' '.join(files)}")


def test_incus_without_security_fixes(machine: Guest) -> None:
    assert _found(_doctor(machine), "security fixes").startswith("ok")
    # What dpkg-query reads.
    _sh(
        machine,
        "sed -i '/^Package: incus-base$/,/^$/"
        "s/^Version: .*/Version: 6.0.4-2+deb13u7/' /var/lib/dpkg/status",
    )
    said = _doctor(machine)
    found = _found(said, "security fixes")
    assert found.startswith("warning")
    assert "CVE-2026-48749" in found
    assert "no fixed version" in _remedies(said, "security fixes")

    _sh(
        machine,
        "apt-get -q update\n"
        "echo 'APT::Get::Assume-Yes true;' >/etc/apt/apt.conf.d/99yes",
    )
    _sh(machine, _remedies(_doctor(machine), "security fixes"))

    assert _found(_doctor(machine), "security fixes").startswith("ok")


def test_incus_7_without_nft(incus_environment: object) -> None:
    del incus_environment
    with guest.running(Incus(), "sid", _BASE) as machine:
        _set_up(machine)
        assert _found(_doctor(machine), "nft").startswith("ok")
        _sh(machine, "mv /usr/sbin/nft /root; systemctl restart incus")
        said = _doctor(machine)
        assert _found(said, "nft").startswith("failed")
        assert "apt install nftables" in _remedies(said, "nft")

        with pytest.raises(errors.CommandFailed) as caught:
            _sh(machine, _NETWORK)
        assert "nft" in caught.value.details

        _sh(machine, "mv /root/nft /usr/sbin")
        assert _found(_doctor(machine), "nft").startswith("ok")
