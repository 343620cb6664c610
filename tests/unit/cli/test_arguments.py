# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command line says of what it does not know."""

import os
import subprocess
import sys

import pytest

#: Seconds; a command that takes its orders from stdin would never end.
_LIMIT = 60


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["imprt", "x"], "did you mean 'import'?"),
        (["image"], "did you mean 'images'?"),
        (["images", "--format=jsn"], "did you mean 'json'?"),
        (["artifact/42"], "'artifact/42' is not one of build, import"),
    ],
)
def test_a_typo_is_an_error_with_the_nearest_word(
    words: list[str], hint: str
) -> None:
    """Standard input is an open pipe: nobody is at the terminal."""
    child = subprocess.Popen(
        [sys.executable, "-m", "incus_testbed", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    )
    with child:
        assert child.wait(_LIMIT) == 2
        assert child.stdout
        assert child.stderr
        assert child.stdout.read() == ""
        assert hint in child.stderr.read()
