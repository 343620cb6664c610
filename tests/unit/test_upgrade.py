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
from incus_testbed.guest import files

overlay = Path(files.__file__).with_name("overlay")
before = {path.name: path.read_bytes() for path in overlay.iterdir()}
shutil.rmtree(overlay)
assert before
assert before == {name: files.content(name) for name in before}
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
