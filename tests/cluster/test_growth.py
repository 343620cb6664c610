# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster in use gets another member."""

import json

from tests.cluster.cluster import Cluster, Member
from tests.cluster.conftest import IMAGE


def test_a_member_that_joins_later_is_made_ready(
    cluster: Cluster, three: list[Member]
) -> None:
    first, third = cluster.first, three[2]

    third.join(first)
    third.push_checkout()
    for member in (third, first):
        status, said = member.ours("incus-testbed", "setup")
        assert status == 0, said

    status, said = first.ours("incus-testbed", "doctor")
    assert status == 0, said
    assert "ok           member three" in said
    addresses = first.ask("/1.0/network-acls/testbeds-debusinebr0")["config"]
    assert third.address in json.dumps(addresses)
    status, said = first.ours(
        *("incus-testbed", "run", "--launch-argument=--target=three"),
        *(IMAGE, "--", "true"),
    )
    assert (status, said) == (0, "")
