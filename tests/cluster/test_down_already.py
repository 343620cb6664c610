# SPDX-License-Identifier: GPL-3.0-or-later
"""A member is known to be down: what works without it, and what is said."""

import json
import time
from collections.abc import Iterator

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.conftest import IMAGE, ON_TWO, TARBALL
from tests.cluster.down import is_one_error

_OTHER = "other"
#: Import a file in place of an image, as a build does.
_REPLACE = """
import sys
from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus
with open(sys.argv[1], "rb") as file:
    Store(Incus()).add(file, sys.argv[2], replace=True)
"""
#: Seconds for a message to come.
_SOON = 60


@pytest.fixture(scope="module")
def left(cluster: Cluster) -> str:
    """Give an instance on the second member that nobody owns."""
    status, said = cluster.first.ours(
        *("incus-testbed", "run", "--keep", ON_TWO, IMAGE, "--", "true")
    )
    assert status == 0, said
    ((name, _),) = cluster.first.testbeds().items()
    return name


@pytest.fixture(scope="module")
def without_two(cluster: Cluster, left: str) -> Iterator[Cluster]:
    """Give the cluster with a second image, and the second member offline."""
    first = cluster.first
    done = first.ours("incus-testbed", "import", TARBALL, f"--alias={_OTHER}")
    assert done[0] == 0, done
    cluster.members[1].kill()
    cluster.wait_for("two", "Offline")
    yield cluster
    cluster.restart("two")
    first.guest.run("incus", "delete", "--force", left)
    for words in (("gc",), ("remove", _OTHER)):
        status, said = first.ours("incus-testbed", *words)
        assert status == 0, said
    assert len(first.ask("/1.0/images")) == 1


def test_status_shows_it(without_two: Cluster) -> None:
    words = ("incus-testbed", "status")

    status, table = without_two.first.ours(*words)
    in_full = without_two.first.ours(*words, "--format=json")

    assert status == in_full[0] == 0, table
    lines = [line.split() for line in table.splitlines()]
    assert ["one", "Online", "0"] in lines
    assert ["two", "Offline", "?"] in lines
    facts = json.loads(in_full[1])
    assert facts["members"] == [
        {"name": "one", "status": "Online", "testbeds": 0},
        {"name": "two", "status": "Offline", "testbeds": None},
    ]


def test_an_image_is_not_removed(without_two: Cluster) -> None:
    """Incus removes it from all members, or not at all."""
    first = without_two.first
    begun = time.monotonic()

    status, said = first.ours("incus-testbed", "remove", _OTHER)

    assert time.monotonic() - begun < _SOON
    assert status == 1
    assert is_one_error(said), said
    assert "incus cluster remove --force" in said
    run = ("incus-testbed", "run", _OTHER, "--", "true")
    assert first.ours(*run) == (0, "")


def test_an_image_is_replaced(without_two: Cluster) -> None:
    """The old one, which can't be removed now, is left to gc."""
    first = without_two.first
    before = first.ask("/1.0/images/aliases/" + _OTHER)["target"]

    status, said = first.ours(
        "/usr/bin/python3", "-c", _REPLACE, TARBALL, _OTHER
    )

    assert status == 0, said
    assert "left to gc" in said
    assert first.ask("/1.0/images/aliases/" + _OTHER)["target"] != before
    run = ("incus-testbed", "run", _OTHER, "--", "true")
    assert first.ours(*run) == (0, "")
    status, said = first.ours("incus-testbed", "gc")
    assert status == 1
    assert is_one_error(said), said
