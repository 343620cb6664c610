# SPDX-License-Identifier: GPL-3.0-or-later
"""Members and what is made for each: the same on a fake and a real cluster.

test_cluster.py runs this on a member.
"""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from tests.support.fake_incus import FakeIncus

_NETWORK = ("network", "contract")
_POOL = ("storage", "contract")


@pytest.fixture(params=["fake", "real"])
def incus(request: pytest.FixtureRequest) -> Iterator[Incus]:
    """Give a cluster of two; remove what the test makes in it."""
    client = (
        FakeIncus(members=("one", "two"))
        if request.param == "fake"
        else Incus(project="default")
    )
    yield client
    for kind, name in (_NETWORK, _POOL):
        with contextlib.suppress(errors.TestbedError, KeyError):
            client.run(kind, "delete", name)


def test_members_are_told_and_asked(incus: Incus) -> None:
    assert [(each.name, each.is_online) for each in incus.members()] == [
        ("one", True),
        ("two", True),
    ]
    for member in ("one", "two"):
        environment = incus.server(member=member)["environment"]
        assert environment["server_name"] == member
        assert incus.resources(member=member)["memory"]["total"] > 0
    assert incus.server()["environment"]["server_name"] == "one"
    for ask in (incus.server, incus.resources):
        with pytest.raises(errors.NotFound):
            ask(member="nobody")


@pytest.mark.parametrize(
    ("thing", "driver"), [(_NETWORK, ()), (_POOL, ("dir",))]
)
def test_a_whole_needs_a_piece_for_each_member(
    incus: Incus, thing: tuple[str, str], driver: tuple[str, ...]
) -> None:
    kind, name = thing
    create = (kind, "create", name, *driver)
    whole = ("ipv4.address=none", "ipv6.address=none") if not driver else ()

    with pytest.raises(errors.CommandFailed):
        incus.run(*create)
    incus.run(*create, "--target=two")
    found = _found(incus, kind, name)
    assert (found["status"], found["locations"]) == ("Pending", ["two"])
    with pytest.raises(errors.AlreadyExists):
        incus.run(*create, "--target=two")
    with pytest.raises(errors.CommandFailed):
        incus.run(*create)
    incus.run(*create, "--target=one")
    incus.run(*create, *whole)
    found = _found(incus, kind, name)
    assert found["status"] == "Created"
    assert set(found["locations"]) == {"one", "two"}
    with pytest.raises(errors.TestbedError):
        incus.run(*create)
    if driver:
        for member in ("one", "two"):
            space = incus.pool_space(name, member=member)
            assert space
            assert 0 < space[1] <= space[0]


def _found(incus: Incus, kind: str, name: str) -> dict[str, Any]:
    things = incus.networks() if kind == "network" else incus.pools()
    (found,) = (each for each in things if each["name"] == name)
    return found
