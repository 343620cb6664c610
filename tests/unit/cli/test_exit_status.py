# SPDX-License-Identifier: GPL-3.0-or-later
"""How a command ends where its parent has handed down something unusual."""

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


_STATUS = (
    "import sys\n"
    "from incus_testbed.cli import exit_status\n"
    "from incus_testbed.process import programs\n"
    "def act():\n"
    "    call = programs.call(['sh', '-c', 'exit 3']).returncode\n"
    "    run = programs.run(['sh', '-c', 'exit 4'], timeout=9).status\n"
    "    return 10 * call + run\n"
    "sys.exit(exit_status.status(act))\n"
)


def _run(
    redirection: str = "",
    *,
    through: str = "",
    program: str = _PROGRAM,
    **variables: str,
) -> "subprocess.CompletedProcess[str]":
    shell = f'exec {through} "$0" -c "$1" {redirection}'
    return subprocess.run(
        ["sh", "-c", shell, sys.executable, program],
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


def test_too_few_open_files_are_one_error() -> None:
    done = _run(
        through="prlimit --nofile=8",
        program="import os, sys\n"
        "from incus_testbed.cli import exit_status\n"
        "act = lambda: [os.pipe() for _ in range(9)]\n"
        "sys.exit(exit_status.status(act))\n",
    )

    assert done.stderr.splitlines() == [
        "incus-testbed: This machine or its limits do not allow that: Too many"
        " open files",
        "  Try again later, or raise the limit: see 'ulimit -a'.",
    ]
    assert done.returncode == 1


def test_ignored_sigchld_hides_no_status() -> None:
    assert (
        _run(through="env --ignore-signal=CHLD", program=_STATUS).returncode
        == 34
    )
