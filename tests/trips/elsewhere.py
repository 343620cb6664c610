# SPDX-License-Identifier: GPL-3.0-or-later
"""Documented commands that no trip runs: who runs them, or why nobody does."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Runner:
    """A function of a test file with the command in it.

    ``values`` are what it has in place of words of the command.
    """

    file: str
    function: str
    values: Mapping[str, str] = field(default_factory=dict)


_DEBUSINE = "tests/e2e/test_debusine.py"
_SHARED = "tests/integration/test_shared_server.py"
_CLUSTER = "tests/cluster/test_cluster.py"
_OURS = {"incus-testbed": "testbed"}

TESTED = {
    "incus-testbed run --launch-argument=--target=MEMBER IMAGE -- COMMAND": (
        Runner(
            _CLUSTER,
            "test_one_import_is_for_every_member",
            {"--launch-argument=--target=MEMBER": "member", "COMMAND": "true"},
        )
    ),
    "autopkgtest PACKAGE -- incus-testbed IMAGE --target=@GROUP": Runner(
        _CLUSTER,
        "test_autopkgtest_chooses_the_member",
        {
            "PACKAGE": "tests/packages/hello-testbed",
            "--target=@GROUP": "--target={target}",
        },
    ),
    "debusine-incus pull 42": Runner(
        _DEBUSINE, "test_developer_pulls_an_environment", {"42": "environment"}
    ),
    "debusine-incus pull --work-request 1234": Runner(
        _DEBUSINE, "test_developer_pulls_an_environment", {"1234": "request"}
    ),
    "journalctl --unit=debusine-worker --grep=incus-": Runner(
        _DEBUSINE, "test_worker_says_what_it_offers"
    ),
    "autopkgtest ../debusine-incus_*.changes -- incus-testbed IMAGE"
    " -c security.nesting=true -c security.privileged=true": Runner(
        "tests/e2e/test_packages.py",
        "test_own_tests",
        {"../debusine-incus_*.changes": "changes", "IMAGE": "images"},
    ),
    "incus-testbed gc --dry-run": Runner(
        _SHARED, "test_what_a_machine_left_stays_until_it_is_given_up", _OURS
    ),
    "incus-testbed gc --host 1a2b3c4d": Runner(
        _SHARED,
        "test_what_a_machine_left_stays_until_it_is_given_up",
        {**_OURS, "1a2b3c4d": "lost"},
    ),
    "sqfs2tar rootfs.squashfs | incus-testbed import - --alias debian-13": (
        Runner(
            "tests/integration/test_other_images.py",
            "test_squashfs",
            {"rootfs.squashfs": "rootfs", "debian-13": "alias"},
        )
    ),
}

#: Sections whose commands another test takes from the page, and runs: a place
#: as in pages.Block, and the test.
READ = {
    f"docs/howto/{place}": Runner("tests/e2e/test_howto.py", function)
    for place, function in {
        "ci.md: On a runner of your own": "test_runner_and_sbuild",
        "ci.md: In a privileged container": "test_privileged_container",
        "debci.md: On your own machine": "test_debci",
        "debci.md: On a worker": "test_debci",
        "debci.md: With debci's own backend incus-lxc": "test_debci",
        "sbuild.md: Set sbuild up": "test_runner_and_sbuild",
        "sbuild.md: Build and test": "test_runner_and_sbuild",
    }.items()
}

#: Not run, and why.
NOT_RUN = {
    "make check": "CI runs it: .ci/run",
    'make bench BENCH="--rounds 5 --json figures.json --plot figures.svg"': (
        "takes an hour"
    ),
    "autopkgtest PACKAGE -- incus-testbed autopkgtest/debian/sid/amd64/vm": (
        "needs KVM; make check-vm boots such a disk"
    ),
    "echo net.ipv4.ip_forward=1 >/etc/sysctl.d/60-incus-testbed-docker.conf": (
        "takes effect at the next boot of a machine with Docker"
    ),
}
