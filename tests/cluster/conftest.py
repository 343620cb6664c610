# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster of two, and a third machine that may join it."""

from collections.abc import Iterator

import pytest

from incus_testbed.incus.client import Incus
from tests.cluster.cluster import Cluster, Member, machines
from tests.cluster.down import collect
from tests.support import images, kernel_limits

#: An image that our setup and import have made ready, by this alias.
IMAGE = "plain"
#: It was imported from this, on the first member.
TARBALL = "/root/plain.tar.zst"
#: What has a testbed made on the second member.
ON_TWO = "--launch-argument=--target=two"


@pytest.fixture(scope="session")
def three(incus: Incus) -> Iterator[list[Member]]:
    """Give machines with an Incus each."""
    with kernel_limits.for_many(), machines(incus, 3) as found:
        yield found


@pytest.fixture(scope="session")
def bare(three: list[Member]) -> Cluster:
    """Give a cluster of two members, with neither a network nor a pool."""
    first, second, _ = three
    first.found()
    second.join(first)
    return Cluster([first, second])


@pytest.fixture(scope="session")
def cluster(bare: Cluster) -> Cluster:
    """Give it set up, with an image."""
    status, said = bare.first.ours("incus-testbed", "setup")
    assert status == 0, said
    bare.first.push(images.build("bookworm"), TARBALL)
    status, said = bare.first.ours(
        "incus-testbed", "import", TARBALL, f"--alias={IMAGE}"
    )
    assert status == 0, said
    return bare


@pytest.fixture
def whole(cluster: Cluster) -> Iterator[Cluster]:
    """Give the cluster; have both members again at the end, with nothing."""
    yield cluster
    cluster.restart("two")
    collect(cluster)


@pytest.fixture
def kept(whole: Cluster) -> Iterator[str]:
    """Give an instance on the second member that nobody owns."""
    run = ("incus-testbed", "run", "--keep", ON_TWO, IMAGE, "--", "true")
    status, said = whole.first.ours(*run)
    assert status == 0, said
    ((name, _),) = whole.first.testbeds().items()
    yield name
    whole.restart("two")
    if name in whole.first.testbeds():
        whole.first.guest.run("incus", "delete", "--force", name)
