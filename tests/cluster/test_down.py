# SPDX-License-Identifier: GPL-3.0-or-later
"""A member goes down, or is evacuated: only its own testbeds are concerned.

The second member is the one; the first goes on with what both share.
"""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from tests.cluster.cluster import Cluster
from tests.cluster.conftest import IMAGE

if TYPE_CHECKING:
    import subprocess

_ON_TWO = "--launch-argument=--target=two"
#: Seconds for Incus to notice that a member is gone, and some.
_NOTICED = 60
#: Seconds after which a command that needs it has to have given up.
_LIMIT = 150


@pytest.fixture
def whole(cluster: Cluster) -> Iterator[Cluster]:
    """Give the cluster; have both members again at the end, with nothing."""
    yield cluster
    second = cluster.members[1]
    if not second.is_running():
        second.start()
    cluster.wait_for("two", "Online")
    _collect(cluster)


def _collect(cluster: Cluster) -> None:
    """Have gc remove all that is left; it has to succeed."""
    deadline = time.monotonic() + _LIMIT
    while testbeds := cluster.first.testbeds():
        assert time.monotonic() < deadline, testbeds
        status, said = cluster.first.ours("incus-testbed", "gc")
        assert status == 0, said
        time.sleep(1)


def _begun(cluster: Cluster, *argv: str) -> "subprocess.Popen[str]":
    """Start a command that says "begun" when it is at the place."""
    started = cluster.first.start_ours(*argv)
    assert started.stdout
    while "begun" not in (line := started.stdout.readline()):
        assert line, "it has ended"
    return started


def _end(started: "subprocess.Popen[str]") -> tuple[int, str]:
    said, _ = started.communicate(timeout=_LIMIT)
    assert "Traceback" not in said
    return started.returncode, said


def _launch_elsewhere(cluster: Cluster) -> None:
    cluster.wait_for("two", "Offline", _NOTICED)
    for _ in range(2):
        done = cluster.first.ours("incus-testbed", "run", IMAGE, "--", "true")
        assert done == (0, "")


def test_in_the_middle_of_a_command(whole: Cluster) -> None:
    run = ("incus-testbed", "run", _ON_TWO, IMAGE, "--")
    started = _begun(whole, *run, "sh", "-c", "echo begun; sleep 600")

    whole.members[1].kill()

    status, said = _end(started)
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


def test_evacuation_and_restoration(whole: Cluster) -> None:
    """What runs there is told to end; new testbeds are launched elsewhere."""
    run = ("incus-testbed", "run", _ON_TWO, IMAGE, "--")
    started = _begun(whole, *run, "sh", "-c", "echo begun; sleep 600")

    whole.first.guest.run("incus", "cluster", "evacuate", "two", "--force")

    status, _ = _end(started)
    assert status == 128 + 15
    assert whole.status()["two"] == "Evacuated"
    status, said = whole.first.ours(*run, "true")
    assert status == 125
    assert "incus cluster restore" in said
    done = whole.first.ours("incus-testbed", "run", IMAGE, "--", "true")
    assert done == (0, "")
    whole.first.guest.run("incus", "cluster", "restore", "two", "--force")
    assert whole.first.ours(*run, "true") == (0, "")
