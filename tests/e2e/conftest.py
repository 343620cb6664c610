# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debusine of each generation, one after the other.

Its worker is set up in the order in which an administrator would do it, and
each fixture gives the machine after one more step.
"""

from collections.abc import Iterator

import pytest

from incus_testbed.incus.client import Incus
from tests.e2e.installation import (
    GENERATIONS,
    Installation,
    installed,
)


# One is chosen by the whole of its name: trixie is in trixie-backports, too.
@pytest.fixture(
    scope="module",
    params=GENERATIONS,
    ids=[f"debusine-{each.suite}-worker" for each in GENERATIONS],
)
def upstreams(
    request: pytest.FixtureRequest,
    incus_environment: object,
    raised_kernel_limits: None,
) -> Iterator[Installation]:
    """Give a Debusine whose worker Debusine's own script has set up."""
    del incus_environment, raised_kernel_limits
    with installed(Incus(), request.param) as installation:
        yield installation


@pytest.fixture(scope="module")
def with_packages(upstreams: Installation) -> Installation:
    """Give it with our packages on the worker, and nothing done about them."""
    upstreams.worker.use_ours()
    return upstreams


@pytest.fixture(scope="module")
def site(with_packages: Installation) -> Installation:
    """Give it with all done that docs/howto/worker.md says."""
    with_packages.set_up()
    with_packages.worker.wait_until_offering()
    return with_packages


@pytest.fixture(scope="module")
def fast(site: Installation) -> Installation:
    """Give it with a pool that clones; that of Debusine's script copies."""
    site.set_up("--pool", "testbeds")
    return site


@pytest.fixture(scope="module")
def restricted(fast: Installation) -> Installation:
    """Give it with a worker that is in no group that is as good as root."""
    fast.worker.restrict("--pool", "testbeds")
    fast.worker.wait_until_offering()
    return fast
