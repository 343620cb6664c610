# SPDX-License-Identifier: GPL-3.0-or-later
"""The search for a free subnet."""

from ipaddress import IPv4Network, IPv6Interface, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incus_testbed import errors
from incus_testbed.host import subnet

_NETWORKS = st.builds(
    lambda address, prefix: IPv4Network((address, prefix), strict=False),
    st.integers(0, 2**32 - 1),
    st.integers(9, 32),
)


@given(st.text(), st.lists(_NETWORKS))
def test_is_private_and_overlaps_nothing(
    name: str, taken: list[IPv4Network]
) -> None:
    found = subnet.free(name, taken)

    assert found.is_private
    assert found.prefixlen == 24
    assert not any(found.overlaps(other) for other in taken)
    assert subnet.free(name, taken) == found


def test_looks_further_where_ten_is_taken_as_a_whole() -> None:
    found = subnet.free("debusinebr0", [IPv4Network("10.0.0.0/8")])

    assert found.subnet_of(IPv4Network("172.16.0.0/12"))


def test_finds_the_last_one() -> None:
    last = IPv4Network("192.168.7.0/24")
    others = IPv4Network("192.168.0.0/16").address_exclude(last)
    taken = [IPv4Network("10.0.0.0/8"), IPv4Network("172.16.0.0/12"), *others]

    assert subnet.free("debusinebr0", taken) == last


def test_says_so_where_all_is_taken() -> None:
    with pytest.raises(errors.Unsupported, match="No private subnet"):
        subnet.free("debusinebr0", [IPv4Network("0.0.0.0/0")])


def test_reads_routes_but_for_the_default_one() -> None:
    routes = [
        {"dst": "default", "gateway": "192.0.2.1"},
        {"dst": "192.0.2.0/24", "dev": "eth0"},
        {"type": "local", "dst": "192.0.2.2"},
    ]

    assert subnet.routed(routes) == [
        IPv4Network("192.0.2.0/24"),
        IPv4Network("192.0.2.2/32"),
    ]


def test_reads_name_servers() -> None:
    text = "search example\nnameserver 10.1.2.3\nnameserver fd00::1\n"

    assert subnet.name_servers(text) == [IPv4Network("10.1.2.3/32")]


def test_reads_networks_of_incus() -> None:
    networks: list[dict[str, dict[str, str]]] = [
        {"config": {"ipv4.address": "10.157.7.1/24"}},
        {"config": {"ipv4.address": "none"}},
        {"config": {}},
    ]

    assert subnet.taken_by_incus(networks) == [IPv4Network("10.157.7.0/24")]


def test_ipv6_is_unique_local() -> None:
    interface = IPv6Interface(subnet.unique_local("debusinebr0"))

    assert interface.network.subnet_of(IPv6Network("fd00::/8"))
    assert interface.network.prefixlen == 64
