# SPDX-License-Identifier: GPL-3.0-or-later
"""A member goes down, or is evacuated: only its own testbeds are concerned.

The second member is the one; the first goes on with what both share.
"""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.conftest import IMAGE, ON_TWO, TARBALL
from tests.cluster.down import LIMIT, NOTICED, end, is_one_error

if TYPE_CHECKING:
    import subprocess

#: Remove an instance, as the end of a testbed does.
_REMOVE = """
import sys
from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.instance import removal
print("begun", flush=True)
try:
    removal.delete(Incus(), sys.argv[1])
except errors.TestbedError as error:
    sys.exit(str(error))
"""


def _begun(cluster: Cluster, *argv: str) -> "subprocess.Popen[str]":
    """Start a command that says "begun" when it is at the place."""
    started = cluster.first.start_ours(*argv)
    assert started.stdout
    while "begun" not in (line := started.stdout.readline()):
        assert line, "it has ended"
    return started


def _launch_elsewhere(cluster: Cluster) -> None:
    cluster.wait_for("two", "Offline", NOTICED)
    for _ in range(2):
        done = cluster.first.ours("incus-testbed", "run", IMAGE, "--", "true")
        assert done == (0, "")


def test_in_the_middle_of_a_command(whole: Cluster) -> None:
    run = ("incus-testbed", "run", ON_TWO, IMAGE, "--")
    started = _begun(whole, *run, "sh", "-c", "echo begun; sleep 600")

    whole.members[1].kill()

    status, said = end(started)
    assert status == 125
    assert "of the cluster does not answer" in said
    assert "incus-testbed gc" in said
    _launch_elsewhere(whole)
    status, said = whole.first.ours(*run, "true")
    assert status == 125
    assert "two of the cluster does not answer" in said
    # What can't be reached now is left alone, and does not stop the rest.
    assert whole.first.ours("incus-testbed", "gc") == (0, "")
    status, said = whole.first.ours("incus-testbed", "doctor")
    assert status == 0, said
    assert "warning      member two         does not answer" in said


@pytest.mark.parametrize("delay", [0.5, 2.0])
def test_in_the_middle_of_a_launch(whole: Cluster, delay: float) -> None:
    """It waits neither for Incus nor for the limit of a launch."""
    started = whole.first.start_ours(
        "incus-testbed", "run", ON_TWO, IMAGE, "--", "sleep", "600"
    )
    time.sleep(delay)

    whole.members[1].kill()

    status, said = end(started)
    assert status == 125, said
    assert is_one_error(said), said
    _launch_elsewhere(whole)


def test_in_the_middle_of_a_copy(whole: Cluster) -> None:
    """Autopkgtest is told that the testbed has failed, not the test."""
    server = whole.first.start_ours(
        *("autopkgtest-virt-incus-testbed", "--warm-commands", "true"),
        *(IMAGE, "--target=two"),
    )
    assert server.stdin
    assert server.stdout
    print("open", file=server.stdin, flush=True)
    said = ""
    while "ok /" not in said:
        answer = server.stdout.readline()
        assert answer, said
        said += answer
    print("revert", file=server.stdin, flush=True)
    time.sleep(0.3)

    whole.members[1].kill()

    said, _ = server.communicate("quit\n", timeout=LIMIT)
    assert "Traceback" not in said
    assert server.returncode == 12, said
    assert is_one_error(said), said
    _launch_elsewhere(whole)


@pytest.mark.parametrize("delay", [0.2, 0.6])
def test_in_the_middle_of_a_removal(
    whole: Cluster, kept: str, delay: float
) -> None:
    started = whole.first.start_ours("/usr/bin/python3", "-c", _REMOVE, kept)
    assert started.stdout
    assert started.stdout.readline() == "begun\n"
    time.sleep(delay)

    whole.members[1].kill()

    status, said = end(started)
    # It may have been removed in time.
    assert (status, said) == (0, "") or is_one_error(said), said
    _launch_elsewhere(whole)
    assert whole.first.ours("incus-testbed", "gc") == (0, "")


@pytest.fixture
def another(whole: Cluster) -> Iterator[str]:
    """Give an alias; remove its image when the members are there again."""
    yield "another"
    whole.restart("two")
    done = whole.first.ours("incus-testbed", "remove", "another")
    assert done[0] == 0, done


@pytest.mark.parametrize("delay", [1.0, 4.0])
def test_in_the_middle_of_an_import(
    whole: Cluster, another: str, delay: float
) -> None:
    """Incus copies an image to the other members before it says it is there.

    What is on the first member is used, or is imported again.
    """
    words = ("incus-testbed", "import", TARBALL, f"--alias={another}")
    started = whole.first.start_ours(*words)
    time.sleep(delay)

    whole.members[1].kill()

    status, said = end(started)
    assert status == 0 or is_one_error(said), said
    whole.wait_for("two", "Offline", NOTICED)
    if status:
        again = whole.first.ours(*words)
        assert again[0] == 0, again
    run = ("incus-testbed", "run", another, "--", "true")
    assert whole.first.ours(*run) == (0, "")


def test_evacuation_and_restoration(whole: Cluster) -> None:
    """What runs there is told to end; new testbeds are launched elsewhere."""
    run = ("incus-testbed", "run", ON_TWO, IMAGE, "--")
    started = _begun(whole, *run, "sh", "-c", "echo begun; sleep 600")

    whole.first.guest.run("incus", "cluster", "evacuate", "two", "--force")

    status, _ = end(started)
    assert status == 128 + 15
    assert whole.status()["two"] == "Evacuated"
    status, said = whole.first.ours(*run, "true")
    assert status == 125
    assert "incus cluster restore" in said
    done = whole.first.ours("incus-testbed", "run", IMAGE, "--", "true")
    assert done == (0, "")
    whole.first.guest.run("incus", "cluster", "restore", "two", "--force")
    assert whole.first.ours(*run, "true") == (0, "")
