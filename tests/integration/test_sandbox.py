# SPDX-License-Identifier: GPL-3.0-or-later
"""A test run leaves an Incus as it found it."""

import json
import os
import signal
import subprocess
import sys

import pytest

from incus_testbed.incus.client import Incus
from tests.support import sandbox
from tests.support.daemon import Daemon

_KILLED = """
import os
import signal
from tests.support import sandbox
killed = sandbox.Sandbox.of("killed")
killed.create_project()
killed.set_up()
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def before(incus_daemon: Daemon) -> set[str]:
    """Give what there is in the Incus before the test."""
    del incus_daemon
    return _everything()


def _everything() -> set[str]:
    incus = Incus(project="default")
    projects = json.loads(incus.run("project", "list", "--format=json"))
    return {
        *(f"project {project['name']}" for project in projects),
        *(
            f"network {network['name']}"
            for network in incus.networks()
            if network["managed"]
        ),
        *(f"pool {pool['name']}" for pool in incus.pools()),
    }


def test_removes_all_it_made(before: set[str]) -> None:
    with sandbox.sandbox(f"s{os.getpid()}") as mine:
        assert Incus(project=mine.project).profile(mine.names.profile)
        assert _everything() > before

    assert _everything() == before


def test_clears_up_after_a_killed_run(before: set[str]) -> None:
    killed = subprocess.run(
        [sys.executable, "-c", _KILLED],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    assert _everything() > before

    sandbox.clear()

    assert _everything() == before
