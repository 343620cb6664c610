# SPDX-License-Identifier: GPL-3.0-or-later
"""A real Debusine runs its tasks on this software's executor.

The tests follow what an administrator does with a worker, one after the other.
"""

import json
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from tests.e2e.debusine import WorkRequest
from tests.e2e.installation import Installation
from tests.e2e.worker import SECRETS, TOKEN, UNIT, process, program

#: Seconds in which a worker removes what another has left.
_CLEAN_UP = 30.0
_NOTHING_TO_DO = "nothing to do"
_ELSEWHERE = "elsewhere"


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


def test_upstreams_executor_on_the_machine_that_its_script_set_up(
    upstreams: Installation,
) -> None:
    upstreams.debusine.complete("makesourcepackageupload", _upload(upstreams))
    assert "/usr/bin/debusine-worker" in program(upstreams.guest)


def test_our_packages_alone_do_not_end_the_offer(
    with_packages: Installation,
) -> None:
    assert with_packages.worker.offers_incus(), with_packages.worker.log()


def test_worker_offers_our_executor(site: Installation) -> None:
    assert site.worker.offers_incus()
    assert "incus-lxc is available, by debusine_incus" in site.worker.log()


def test_worker_says_what_it_offers(site: Installation) -> None:
    said = site.guest.run(
        *("journalctl", "--unit=debusine-worker", "--grep=incus-")
    )
    assert "incus-lxc is available, by debusine_incus" in said


def _nics(site: Installation) -> list[tuple[str, str]]:
    """Return name and network of the NICs that a testbed gets."""
    shown = site.guest.run("incus", "query", "/1.0/profiles/debusine")
    return [
        (device["name"], device["network"])
        for device in json.loads(shown)["devices"].values()
        if device["type"] == "nic"
    ]


def test_setup_keeps_what_upstreams_script_made(site: Installation) -> None:
    assert _nics(site) == [("host0", "debusinebr0")]
    assert _NOTHING_TO_DO in site.set_up()


@pytest.fixture
def _doubled_nic(site: Installation) -> Iterator[None]:
    """Have the profile as earlier versions of our setup left upstream's."""
    site.guest.run(
        *("incus", "profile", "device", "add", "debusine", "eth0", "nic"),
        *("network=debusinebr0", "name=host0"),
    )
    yield
    if len(_nics(site)) > 1:
        site.guest.run(
            *("incus", "profile", "device", "remove", "debusine", "eth0")
        )


@pytest.mark.usefixtures("_doubled_nic")
def test_setup_mends_what_an_earlier_version_broke(site: Installation) -> None:
    site.debusine.complete(
        "makesourcepackageupload", _upload(site), result="failure"
    )
    assert _NOTHING_TO_DO not in site.set_up()
    assert _nics(site) == [("host0", "debusinebr0")]
    assert _NOTHING_TO_DO in site.set_up()
    site.debusine.complete("makesourcepackageupload", _upload(site))


@pytest.fixture(scope="module")
def tested(site: Installation) -> WorkRequest:
    """Have a package's tests run."""
    return site.debusine.complete("autopkgtest", _autopkgtest(site))


def test_autopkgtest(site: Installation, tested: WorkRequest) -> None:
    result = site.debusine.artifacts(tested)["debian:autopkgtest"]
    summary = site.debusine.files(result)["summary"]
    assert [line.split()[:2] for line in summary.splitlines()] == [
        ["as-root", "PASS"],
        ["across-reboot", "PASS"],
        ["breaks-system", "PASS"],
        ["as-user", "PASS"],
    ]
    assert site.guest.instances() == []


def _pools(site: Installation, project: str = "default") -> list[str]:
    """Return the names of the pools that profiles of a project use."""
    return [
        site.guest.run(
            *("incus", "profile", "device", "get", name, "root", "pool"),
            f"--project={project}",
        ).strip()
        for name in ("debusine", "debusine-vm")
    ]


def test_doctor_says_how_testbeds_start_faster(site: Installation) -> None:
    assert _pools(site) == ["default"] * 2
    said = site.guest.run("incus-testbed", "doctor")
    assert "dir: each launch unpacks the whole image" in said
    assert "\n  incus-testbed setup --pool testbeds\n" in said


def test_testbeds_start_faster(fast: Installation) -> None:
    """What follows runs in that pool."""
    assert _pools(fast) == ["testbeds"] * 2
    said = fast.guest.run("incus-testbed", "doctor")
    assert re.search(r"ok +storage pool testbeds +btrfs", said)
    assert _NOTHING_TO_DO in fast.set_up()


def test_developer_pulls_an_environment(
    site: Installation, tested: WorkRequest
) -> None:
    environment, request = str(site.environment), str(tested.number)
    alias = f"artifact/{environment}"
    for pull in (
        ("debusine-incus", "pull", environment),
        ("debusine-incus", "pull", "--work-request", request),
    ):
        site.guest.run("incus-testbed", "remove", alias)
        assert alias in site.guest.run(*pull)
        said = site.guest.run("incus-testbed", "run", alias, "--", "id", "-un")
        assert said == "root\n"
    # The worker's own image may be removed for space; this one stays.
    site.guest.run("incus-testbed", "remove", alias)


@dataclass(frozen=True, kw_only=True)
class _Attack:
    """What the server has of a package whose tests meant harm, and the worker.

    ``before`` and ``after``: the worker's own files.
    ``artifacts``: the folders of what was downloaded, by category.
    """

    before: str
    after: str
    artifacts: dict[str, str]


@pytest.fixture(scope="module")
def attack(site: Installation) -> _Attack:
    """Have a package's tests reach for the worker's token and configuration."""
    source = site.hostile_source
    before = site.worker.secrets()
    request = site.debusine.complete(
        "autopkgtest",
        site.task(
            input={"source_artifact": source, "binary_artifacts": []},
            extra_environment={"VICTIM": SECRETS, "SECRET": TOKEN},
            **site.architecture,
        ),
    )
    artifacts = site.debusine.artifacts(request)
    return _Attack(
        before=before,
        after=site.worker.secrets(),
        artifacts={
            category: site.debusine.download(artifacts[category])
            for category in artifacts
        },
    )


def test_hostile_package_gets_nothing_of_the_worker(
    site: Installation, attack: _Attack
) -> None:
    for folder in attack.artifacts.values():
        search = 'grep -rlFf "$1" "$2" || test $? = 1'
        found = site.guest.run("sh", "-c", search, "sh", TOKEN, folder)
        assert not found


def test_hostile_package_changes_nothing_of_the_worker(
    site: Installation, attack: _Attack
) -> None:
    as_worker = ("runuser", "-u", "debusine-worker", "--")
    site.guest.run(*as_worker, "test", "-w", SECRETS, "-a", "-r", TOKEN)
    assert attack.after == attack.before


def test_hostile_package_has_its_results_and_artifacts(
    site: Installation, attack: _Attack
) -> None:
    result = attack.artifacts["debian:autopkgtest"]
    summary = site.guest.run("cat", f"{result}/summary")
    assert summary.split() == ["plants-links", "PASS"] * 2
    log = site.guest.run("cat", f"{result}/log")
    assert "left out ./notes.txt: the link is absolute" in log
    sent = site.guest.run("find", result, "-path", "*/data/from-the-guest")
    assert len(sent.splitlines()) == 1


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


def _in_the_middle(site: Installation) -> tuple[WorkRequest, str]:
    """Have a task run; return its request and the name of its instance."""
    request = site.debusine.submit("makesourcepackageupload", _upload(site))
    _wait_for("instance", lambda: bool(site.guest.instances()), 120)
    (name,) = site.guest.instances()
    return request, name


@pytest.mark.parametrize("way", ["restart", "kill"])
def test_worker_goes_down_in_the_middle(site: Installation, way: str) -> None:
    _, name = _in_the_middle(site)
    getattr(site.worker, way)()
    _wait_for("clean-up", lambda: name not in site.guest.instances(), _CLEAN_UP)
    newest = site.debusine.settle()
    assert newest.result == "success", site.debusine.evidence(newest)
    assert site.guest.instances() == []


def test_upgrade_leaves_a_busy_worker_alone(site: Installation) -> None:
    before = process(site.guest)
    request, _ = _in_the_middle(site)
    site.worker.upgrade()
    ended = site.debusine.wait(request)
    assert ended.result == "success", site.debusine.evidence(ended)
    assert process(site.guest) == before


@pytest.fixture
def _project(site: Installation) -> Iterator[None]:
    """Have a project that testbeds can be in, beside the default one."""
    site.guest.run(
        *("incus", "project", "create", _ELSEWHERE),
        *("-c", "features.images=true", "-c", "features.profiles=true"),
    )
    try:
        site.set_up(project=_ELSEWHERE)
        yield
    finally:
        site.guest.run(
            *("sh", "-c", f"echo yes | incus project delete -f {_ELSEWHERE}"),
        )


def test_incus_of_which_only_the_worker_is_told(site: Installation) -> None:
    """What the virt server would not find is refused."""
    with site.worker.environment(unit={"INCUS_SOCKET": "/nonexistent"}):
        assert not site.worker.offers_incus(), site.worker.log()
        if not site.generation.children_inherit:
            assert "[Environment]" in site.worker.log()
            assert "config.ini" in site.worker.log()


@pytest.mark.usefixtures("_project")
def test_project_of_which_only_the_worker_is_told(site: Installation) -> None:
    """The virt server gets it as an option, where it would not see it."""
    with site.worker.environment(unit={"INCUS_PROJECT": _ELSEWHERE}):
        assert site.worker.offers_incus(), site.worker.log()
        request = site.debusine.submit(
            "autopkgtest", {**_autopkgtest(site), "include_tests": ["as-user"]}
        )
        _wait_for(
            f"instance in project {_ELSEWHERE}",
            lambda: bool(site.guest.instances(f"--project={_ELSEWHERE}")),
            120,
        )
        ended = site.debusine.wait(request)
        assert ended.result == "success", site.debusine.evidence(ended)


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
    """Of all that went before only the image is kept."""
    assert site.guest.instances() == []
    listed = site.guest.run("incus", "image", "list", "--format=json")
    aliases = [
        [alias["name"] for alias in image["aliases"]]
        for image in json.loads(listed)
    ]
    assert aliases == [[f"artifact/{site.environment}"]]
    kept = site.guest.run(
        *("find", "/var/lib/debusine/worker"),
        # Debusine's own executor keeps what it downloads.
        *("-path", "*/system-images", "-prune", "-o", "-name", "*.tar*"),
        "-print",
    )
    assert kept == ""


# -- the worker without rights; what follows runs last


def test_worker_in_a_restricted_project(restricted: Installation) -> None:
    groups = restricted.guest.run("id", "-nG", UNIT).split()
    assert "incus" in groups
    assert not {"root", "sudo", "incus-admin"} & set(groups)
    log = restricted.worker.log()
    assert "incus-lxc is available, by debusine_incus" in log
    uid = restricted.guest.run("id", "-u", UNIT).strip()
    assert _pools(restricted, f"user-{uid}") == ["testbeds"] * 2


def test_autopkgtest_in_a_restricted_project(restricted: Installation) -> None:
    uid = restricted.guest.run("id", "-u", UNIT).strip()
    request = restricted.debusine.submit(
        "autopkgtest", _autopkgtest(restricted)
    )
    _wait_for(
        "instance in the worker's project",
        lambda: bool(restricted.guest.instances(f"--project=user-{uid}")),
        240,
    )
    ended = restricted.debusine.wait(request)
    assert ended.result == "success", restricted.debusine.evidence(ended)
    result = restricted.debusine.artifacts(ended)["debian:autopkgtest"]
    summary = restricted.debusine.files(result)["summary"]
    assert [line.split()[1] for line in summary.splitlines()] == ["PASS"] * 4
    assert restricted.guest.instances() == []


def test_sbuild_in_a_restricted_project(restricted: Installation) -> None:
    request = restricted.debusine.complete(
        "sbuild",
        restricted.task(
            input={"source_artifact": restricted.source},
            build_components=["all"],
            **restricted.architecture,
        ),
    )
    assert "debian:binary-package" in restricted.debusine.artifacts(request)
    assert restricted.guest.instances() == []


@pytest.mark.parametrize(
    "words",
    [
        ("init", "--empty", "x", "--config=security.privileged=true"),
        ("init", "--empty", "x", "--config=raw.lxc=lxc.net.0.type=none"),
        ("init", "--empty", "x", "--project=default"),
        ("network", "create", "x"),
        ("storage", "create", "x", "dir"),
        ("config", "set", "core.https_address=:8443"),
    ],
)
def test_restricted_worker_can_not(
    restricted: Installation, words: tuple[str, ...]
) -> None:
    allowed, said = restricted.worker.try_to(*words)
    assert not allowed, said
