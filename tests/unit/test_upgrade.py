# SPDX-License-Identifier: GPL-3.0-or-later
"""A process that goes on while its package is upgraded."""

import shutil
import subprocess
import sys
from pathlib import Path

import incus_testbed

_PACKAGE = Path(incus_testbed.__file__).parent

_PROGRAM = """
import shutil
from pathlib import Path
from incus_testbed.customise import overlay
from incus_testbed.instance import scripts

def taken_away(module, folder):
    path = Path(module.__file__).with_name(folder)
    before = {file.name: file.read_bytes() for file in path.iterdir()}
    shutil.rmtree(path)
    assert before
    return before

before = taken_away(overlay, "overlay")
assert before == {name: overlay.content(name) for name in before}
before = taken_away(scripts, "scripts")
assert before == {name: scripts.text(name).encode() for name in before}
"""


def test_scripts_are_those_of_the_version_that_was_started(
    tmp_path: Path,
) -> None:
    shutil.copytree(_PACKAGE, tmp_path / "incus_testbed")
    done = subprocess.run(
        [sys.executable, "-P", "-c", _PROGRAM],
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout
