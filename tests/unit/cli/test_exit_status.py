# SPDX-License-Identifier: GPL-3.0-or-later
"""How a command ends where its standard streams are closed, or full."""

import os
import subprocess
import sys

import pytest

_PROGRAM = (
    "import os, sys\n"
    "from incus_testbed.cli import exit_status\n"
    "def act():\n"
    "    print('much ' * 10_000)\n"
    "    os.write(1, b'more\\n')\n"
    "    return sum(file.isatty() for file in (sys.stdin, sys.stdout))\n"
    "sys.exit(exit_status.status(act, failure_status=9))\n"
)


def _run(
    redirection: str, **variables: str
) -> "subprocess.CompletedProcess[str]":
    shell = f'exec "$0" -c "$1" {redirection}'
    return subprocess.run(
        ["sh", "-c", shell, sys.executable, _PROGRAM],
        env={**os.environ, **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_full_disk_is_one_error(unbuffered: str) -> None:
    done = _run(">/dev/full", PYTHONUNBUFFERED=unbuffered)

    assert done.stderr == (
        "incus-testbed: standard output can't be written: No space left"
        " on device\n"
    )
    assert done.returncode == 9


@pytest.mark.parametrize("redirection", [">&-", "<&-", ">&- <&- 2>&-"])
def test_a_closed_stream_is_like_the_null_device(redirection: str) -> None:
    done = _run(redirection)

    assert done.stderr == ""
    assert done.returncode == 0
