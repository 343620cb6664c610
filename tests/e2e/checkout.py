# SPDX-License-Identifier: GPL-3.0-or-later
"""What is committed of this tree, in a guest."""

import subprocess
import tempfile
from pathlib import Path

from tests.e2e.guest import Guest
from tests.e2e.packages import ROOT

#: Where it is there.
PLACE = "/root/checkout"


def put(machine: Guest) -> None:
    """Put it into a machine that has none."""
    with tempfile.TemporaryDirectory() as scratch:
        tarball = Path(scratch, "checkout.tar")
        subprocess.run(
            ["git", "archive", f"--output={tarball}", "HEAD"],
            cwd=ROOT,
            check=True,
        )
        machine.push(tarball, "/root")
    machine.run("mkdir", PLACE)
    machine.run("tar", "-xf", "/root/checkout.tar", "-C", PLACE)
