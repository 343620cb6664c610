# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Debusine runs its tasks in virtual machines, by this software.

Each boot of a virtual machine takes minutes here, so there are few tests.
"""

from collections.abc import Iterator

import pytest

from incus_testbed.incus.client import Incus
from tests.e2e.emulated import Site, installed
from tests.e2e.installation import GENERATIONS
from tests.support import images
from tests.vm import disks

#: Those in the Debian of the emulated machine, with backports or without.
_GENERATIONS = [
    each for each in GENERATIONS if images.codename(each.suite) == disks.SUITE
]
#: The package's tests that need no reboot, no revert and no mirror.
_TESTS = ["as-root"]


@pytest.fixture(
    scope="module",
    params=_GENERATIONS,
    ids=[f"debusine-{each.suite}-worker" for each in _GENERATIONS],
)
def site(
    request: pytest.FixtureRequest,
    incus_environment: object,
    raised_kernel_limits: None,
) -> Iterator[Site]:
    """Give a Debusine whose worker runs virtual machines."""
    del incus_environment, raised_kernel_limits
    with installed(Incus(), request.param) as debusine:
        yield debusine


def test_worker_offers_our_executor(site: Site) -> None:
    assert "incus-vm is available, by debusine_incus" in site.worker.log()


def test_makesourcepackageupload(site: Site) -> None:
    request = site.debusine.complete(
        "makesourcepackageupload",
        site.task(input={"source_artifact": site.source}),
    )
    print(f"it took {request.seconds:.0f} s")
    result = site.debusine.artifacts(request)["debian:upload"]
    assert "hello-testbed_1_source.changes" in site.debusine.files(result)
    assert site.instances() == []


def test_autopkgtest(site: Site) -> None:
    request = site.debusine.complete(
        "autopkgtest",
        site.task(
            input={"source_artifact": site.source, "binary_artifacts": []},
            include_tests=_TESTS,
            **site.generation.on("amd64"),
        ),
    )
    print(f"it took {request.seconds:.0f} s")
    result = site.debusine.artifacts(request)["debian:autopkgtest"]
    summary = site.debusine.files(result)["summary"]
    assert [line.split()[:2] for line in summary.splitlines()] == [
        [name, "PASS"] for name in _TESTS
    ]
    assert site.instances() == []
