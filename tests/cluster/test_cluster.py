# SPDX-License-Identifier: GPL-3.0-or-later
"""A cluster is set up from one member, and testbeds run on each."""

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.conftest import IMAGE

_MEMBERS = pytest.mark.parametrize("member", ["one", "two"])


def _on(member: str) -> str:
    return f"--launch-argument=--target={member}"


def test_setup_is_for_the_whole_cluster(bare: Cluster) -> None:
    first, second = bare.members

    planned = first.ours("incus-testbed", "setup", "--dry-run")
    done = first.ours("incus-testbed", "setup")

    assert done == planned
    assert done[0] == 0
    for kind in ("networks/debusinebr0", "storage-pools/default"):
        made = first.ask(f"/1.0/{kind}")
        assert made["status"] == "Created"
        assert set(made["locations"]) == {"one", "two"}
    # Each writes its addresses down; then nothing is left to do on either.
    second.push_checkout()
    second.ours("incus-testbed", "setup")
    for member in bare.members:
        status, said = member.ours("incus-testbed", "setup")
        assert (status, said) == (0, "Nothing is missing: nothing to do.\n")


def test_doctor_looks_at_each_member(cluster: Cluster) -> None:
    status, said = cluster.first.ours("incus-testbed", "doctor")

    assert status == 0, said
    assert "ok           member one" in said
    assert "ok           member two" in said
    assert "not checked  other machines" in said
    assert "of two can't be seen from here" in said


def test_fake_cluster_keeps_the_same_contract(cluster: Cluster) -> None:
    status, said = cluster.first.ours(
        *("/usr/bin/python3", "-m", "pytest", "-p", "no:cacheprovider"),
        "tests/cluster/contract.py",
    )

    assert status == 0, said


@_MEMBERS
def test_one_import_is_for_every_member(cluster: Cluster, member: str) -> None:
    status, said = cluster.first.ours(
        *("incus-testbed", "run", "--keep", _on(member), IMAGE, "--", "true")
    )

    assert status == 0, said
    ((name, where),) = cluster.first.testbeds().items()
    assert where == member
    cluster.first.guest.run("incus", "delete", "--force", name)
    assert len(cluster.first.ask("/1.0/images")) == 1


@_MEMBERS
def test_a_command_keeps_its_streams_and_status(
    cluster: Cluster, member: str
) -> None:
    script = "wc -c; echo out; echo err >&2; exit 42"
    status, said = cluster.first.ours(
        "sh",
        "-c",
        "head -c 3000000 /dev/zero"
        f' | incus-testbed run {_on(member)} {IMAGE} -- sh -c "$0" 2>/tmp/err;'
        " echo status $?; cat /tmp/err",
        script,
    )

    assert (status, said.split()) == (
        0,
        ["3000000", "out", "status", "42", "err"],
    )
    assert cluster.first.has_no_testbeds()


def test_a_launch_names_a_member_or_a_group(cluster: Cluster) -> None:
    def run(target: str) -> tuple[int, str]:
        return cluster.first.ours(
            "incus-testbed", "run", _on(target), IMAGE, "--", "true"
        )

    assert run("@default") == (0, "")
    for target in ("nobody", "@nobody"):
        status, said = run(target)
        assert status == 125
        assert "nobody" in said
        assert "Traceback" not in said


@pytest.mark.parametrize("target", ["one", "two", "@default"])
def test_autopkgtest_chooses_the_member(cluster: Cluster, target: str) -> None:
    status, said = cluster.first.ours(
        *("autopkgtest", "tests/packages/hello-testbed"),
        *("--test-name=as-root", "--test-name=across-reboot"),
        *("--", "incus-testbed", IMAGE, f"--target={target}"),
    )

    assert status == 0, said
    assert "as-root              PASS" in said
    assert "across-reboot        PASS" in said
    assert cluster.first.has_no_testbeds()


def test_a_warm_testbed_stays_on_the_member_of_its_base(
    cluster: Cluster,
) -> None:
    """Incus would choose another, and send the whole disk there."""
    server = cluster.first.start_ours(
        *("autopkgtest-virt-incus-testbed", "--warm-commands", "true"),
        *(IMAGE, "--target=two"),
    )
    assert server.stdin
    assert server.stdout
    try:
        for request in ("open", "revert", "revert"):
            print(request, file=server.stdin, flush=True)
            while not (answer := server.stdout.readline()).startswith("ok /"):
                assert answer, "the server has ended"
            assert set(cluster.first.testbeds().values()) == {"two"}
    finally:
        server.communicate("quit\n")
    assert cluster.first.has_no_testbeds()
