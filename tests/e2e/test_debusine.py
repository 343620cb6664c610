# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Debusine runs its tasks on this software's executor."""

import json
import time
from collections.abc import Callable, Iterator

import pytest

from tests.e2e.installation import Installation
from tests.e2e.worker import program

#: Seconds in which a worker removes what another has left.
_CLEAN_UP = 30.0


def _wait_for(what: str, condition: Callable[[], bool], limit: float) -> None:
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"no {what} after {limit} s"
        time.sleep(0.2)


def _autopkgtest(site: Installation) -> dict[str, object]:
    return site.task(
        input={"source_artifact": site.source, "binary_artifacts": []},
        **site.architecture,
    )


def _debdiff(site: Installation) -> dict[str, object]:
    return site.task(
        input={"source_artifacts": [site.source, site.newer_source]},
        **site.architecture,
    )


def _upload(site: Installation) -> dict[str, object]:
    return site.task(input={"source_artifact": site.source})


def test_worker_offers_our_executor(site: Installation) -> None:
    assert site.worker.offers_incus()
    assert "incus-lxc is available, by debusine_incus" in site.worker.log()


def test_autopkgtest(site: Installation) -> None:
    request = site.debusine.complete("autopkgtest", _autopkgtest(site))
    result = site.debusine.artifacts(request)["debian:autopkgtest"]
    summary = site.debusine.files(result)["summary"]
    assert [line.split()[:2] for line in summary.splitlines()] == [
        ["as-root", "PASS"],
        ["across-reboot", "PASS"],
        ["breaks-system", "PASS"],
        ["as-user", "PASS"],
    ]
    assert site.guest.instances() == []


def test_debdiff(site: Installation) -> None:
    request = site.debusine.complete("debdiff", _debdiff(site))
    result = site.debusine.artifacts(request)["debian:debdiff"]
    assert "+hello-testbed (2)" in site.debusine.files(result)["debdiff.txt"]
    assert site.guest.instances() == []


def test_makesourcepackageupload(site: Installation) -> None:
    request = site.debusine.complete("makesourcepackageupload", _upload(site))
    result = site.debusine.artifacts(request)["debian:upload"]
    assert "hello-testbed_1_source.changes" in site.debusine.files(result)
    assert site.guest.instances() == []


def test_sbuild(site: Installation) -> None:
    request = site.debusine.complete(
        "sbuild",
        site.task(
            input={"source_artifact": site.source},
            build_components=["all"],
            **site.architecture,
        ),
    )
    result = site.debusine.artifacts(request)["debian:binary-package"]
    assert "hello-testbed_1_all.deb" in site.debusine.files(result)
    assert site.guest.instances() == []


def _in_the_middle(site: Installation) -> str:
    """Have a task run; return the name of its instance."""
    site.debusine.submit("makesourcepackageupload", _upload(site))
    _wait_for("instance", lambda: bool(site.guest.instances()), 120)
    (name,) = site.guest.instances()
    return name


@pytest.mark.parametrize("way", ["restart", "kill"])
def test_worker_goes_down_in_the_middle(site: Installation, way: str) -> None:
    name = _in_the_middle(site)
    getattr(site.worker, way)()
    _wait_for("clean-up", lambda: name not in site.guest.instances(), _CLEAN_UP)
    newest = site.debusine.settle()
    assert newest.result == "success", site.debusine.evidence(newest)
    assert site.guest.instances() == []


@pytest.fixture
def _no_way_out(site: Installation) -> Iterator[None]:
    """Keep the instances from reaching anything, the mirror for one."""
    table = ("inet", "e2e")
    site.guest.run("nft", "add", "table", *table)
    try:
        site.guest.run(
            *("nft", "add", "chain", *table, "forward"),
            "{ type filter hook forward priority -1; policy accept; }",
        )
        site.guest.run(
            *("nft", "add", "rule", *table, "forward"),
            *("iifname", "debusinebr0", "reject"),
        )
        yield
    finally:
        site.guest.run("nft", "delete", "table", *table)


@pytest.mark.usefixtures("_no_way_out")
def test_task_can_not_be_configured(site: Installation) -> None:
    site.debusine.complete("debdiff", _debdiff(site), result="failure")
    assert site.guest.instances() == []


def test_removing_the_package_gives_upstreams_executor_back(
    site: Installation,
) -> None:
    site.worker.use_upstreams()
    assert "/usr/bin/debusine-worker" in program(site.guest)
    site.worker.use_ours()
    assert "debusine_incus.worker" in program(site.guest)
    site.worker.wait_until_offering()


def test_nothing_is_left(site: Installation) -> None:
    """Runs last: of all that went before only the image is kept."""
    assert site.guest.instances() == []
    listed = site.guest.run("incus", "image", "list", "--format=json")
    aliases = [
        [alias["name"] for alias in image["aliases"]]
        for image in json.loads(listed)
    ]
    assert aliases == [[f"artifact/{site.environment}"]]
    kept = site.guest.run(
        *("find", "/var/lib/debusine/worker", "-name", "*.tar*")
    )
    assert kept == ""
