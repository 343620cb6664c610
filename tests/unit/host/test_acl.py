# SPDX-License-Identifier: GPL-3.0-or-later
"""What testbeds may reach, where the machine is not the usual one."""

from ipaddress import ip_address

import pytest

from incus_testbed.host import doctor, subnet
from tests.support.fake_incus import FakeIncus

_ACL = "testbeds-debusinebr0"


@pytest.fixture(autouse=True)
def _addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ["127.0.0.1", "192.0.2.7", "2001:db8::7", "fe80::1"]
    monkeypatch.setattr(subnet, "addresses", lambda: found)


def _finding(incus: FakeIncus) -> doctor.Finding:
    return next(
        report.finding
        for report in doctor.doctor(incus)
        if report.requirement == "network access"
    )


def _set_up(
    incus: FakeIncus, access: doctor.Access = doctor.AS_BEFORE
) -> dict[str, str]:
    """Return what the rules of the way out open, by where they start."""
    list(doctor.setup(incus, access=access))
    return {
        rule["source"]: rule["destination"]
        for rule in incus.network_acl(_ACL)["egress"]
        if "source" in rule
    }


def test_the_way_out_is_all_but_what_is_closed() -> None:
    incus = FakeIncus()
    incus.run("network", "create", "debusinebr0", "ipv4.address=10.1.2.1/24")

    assert _set_up(incus) == {
        "10.1.2.0/24": "1.0.0.0-10.1.1.255,10.1.3.0-126.255.255.255,"
        "128.0.0.0-169.253.255.255,169.255.0.0-192.0.2.6,"
        "192.0.2.8-223.255.255.255"
    }


def test_private_addresses_are_closed_on_request() -> None:
    incus = FakeIncus()
    incus.run("network", "create", "debusinebr0", "ipv4.address=10.1.2.1/24")

    assert _set_up(incus, doctor.Access(private=False)) == {
        "10.1.2.0/24": "1.0.0.0-9.255.255.255,11.0.0.0-100.63.255.255,"
        "100.128.0.0-126.255.255.255,128.0.0.0-169.253.255.255,"
        "169.255.0.0-172.15.255.255,172.32.0.0-192.0.2.6,"
        "192.0.2.8-192.167.255.255,192.169.0.0-223.255.255.255"
    }
    assert "but not private" in _finding(incus).detail


def test_a_bridge_with_ipv6_leads_out_by_ipv6() -> None:
    incus = FakeIncus()
    incus.run(
        *("network", "create", "debusinebr0", "ipv4.address=none"),
        "ipv6.address=fd12::1/64",
    )

    assert _set_up(incus) == {
        "fd12::/64": "2000::-2001:db8::6,"
        "2001:db8::8-3fff:ffff:ffff:ffff:ffff:ffff:ffff:ffff,"
        "fc00::-fd11:ffff:ffff:ffff:ffff:ffff:ffff:ffff,"
        "fd12:0:0:1::-fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
    }


def test_guests_of_another_network_are_closed() -> None:
    incus = FakeIncus()
    incus.run("network", "create", "incusbr0", "ipv4.address=10.9.9.1/24")
    incus.run("network", "create", "debusinebr0", "ipv4.address=10.1.2.1/24")

    (opened,) = _set_up(incus).values()

    assert ",10.1.3.0-10.9.8.255,10.9.10.0-" in opened


def test_an_admins_rule_and_setting_are_kept() -> None:
    incus = FakeIncus()
    list(doctor.setup(incus))
    rule = {"action": "allow", "description": "mine", "state": "enabled"}
    acl = incus.objects["acl"][_ACL]
    acl["egress"].append(rule)
    acl["ingress"].append(rule)
    acl["config"]["user.mine"] = "yes"
    incus.run("network", "create", "other", "ipv4.address=10.9.9.1/24")

    list(doctor.setup(incus))

    acl = incus.network_acl(_ACL)
    assert rule in acl["egress"]
    assert rule in acl["ingress"]
    assert acl["config"]["user.mine"] == "yes"


def test_an_acl_that_the_network_does_not_use_is_not_trusted() -> None:
    """A user of a restricted project may have made it before setup."""
    incus = FakeIncus()
    incus.run("network", "acl", "create", _ACL)
    rule = {"action": "allow", "description": "evil", "state": "enabled"}
    acl = incus.objects["acl"][_ACL]
    acl["egress"].append(rule)
    acl["config"]["user.incus-testbed.private"] = "open"

    list(doctor.setup(incus))

    acl = incus.network_acl(_ACL)
    assert rule not in acl["egress"]
    assert acl["config"] == {}
    assert not list(doctor.setup(incus))


def test_an_exception_is_made_once() -> None:
    incus = FakeIncus()
    proxy = doctor.Access(allowed=((ip_address("192.0.2.7"), 3142),))

    list(doctor.setup(incus, access=proxy))

    assert list(doctor.setup(incus, access=proxy)) == []


def test_another_packet_filter_is_a_warning() -> None:
    incus = FakeIncus()
    incus.firewall = "xtables"

    list(doctor.setup(incus))

    finding = _finding(incus)
    assert finding.state is doctor.State.WARNING
    assert "xtables" in finding.detail
    assert not incus.objects["acl"]


def test_a_bridge_of_others_is_a_note() -> None:
    incus = FakeIncus()
    list(doctor.setup(incus))
    network = incus.objects["network"]["debusinebr0"]
    network["managed"], network["used_by"] = False, ["profile"]

    assert _finding(incus).state is doctor.State.NOTE
