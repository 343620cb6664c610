# SPDX-License-Identifier: GPL-3.0-or-later
"""What a command does that needs the second member, which goes down."""

import time
from typing import TYPE_CHECKING

from tests.cluster.cluster import Cluster

if TYPE_CHECKING:
    import subprocess

#: Seconds for Incus to notice that a member is gone, and some.
NOTICED = 60
#: Seconds after which a command that needs it has to have given up.
LIMIT = 90


def end(started: "subprocess.Popen[str]", types: str = "") -> tuple[int, str]:
    """Wait for a command's end; return its status and what it has said."""
    said, _ = started.communicate(types, timeout=LIMIT)
    assert "Traceback" not in said
    return started.returncode, said


def is_one_error(said: str) -> bool:
    """Tell whether a user gets one error, of this member, and the next step."""
    return (
        said.count("Try it again") == 1
        and "two of the cluster does not answer" in said
        and "A member of the cluster" not in said
    )


def collect(cluster: Cluster) -> None:
    """Have gc remove all that is left; it has to succeed."""
    deadline = time.monotonic() + LIMIT
    while testbeds := cluster.first.testbeds():
        assert time.monotonic() < deadline, testbeds
        status, said = cluster.first.ours("incus-testbed", "gc")
        assert status == 0, said
        time.sleep(1)
