# SPDX-License-Identifier: GPL-3.0-or-later
"""The script that runs apt-get in a guest."""

import subprocess
from pathlib import Path

from incus_testbed.instance import scripts

_APT = """\
#!/bin/sh
for number in $(seq 30); do echo "line $number"; done
echo "$*" | tail -c 26 >&2
echo "$http_proxy $DEBIAN_FRONTEND"
exit {status}
"""


def _run(
    folder: Path, status: int, *words: str
) -> "subprocess.CompletedProcess[str]":
    apt = folder / "apt-get"
    apt.write_text(_APT.format(status=status))
    apt.chmod(0o755)
    return subprocess.run(
        scripts.command("apt.sh", *words),
        env={"PATH": f"{folder}:/usr/bin:/bin"},
        stdout=subprocess.PIPE,
        text=True,
        check=False,
        timeout=60,
    )


def test_success_says_nothing(tmp_path: Path) -> None:
    done = _run(tmp_path, 0, "update")

    assert (done.returncode, done.stdout) == (0, "")


def test_a_failure_says_the_end_of_it(tmp_path: Path) -> None:
    done = _run(tmp_path, 100, "autoremove", "http_proxy=http://p:1")

    assert done.returncode == 100
    lines = done.stdout.splitlines()
    assert len(lines) == 15
    assert lines[-3] == "line 30"
    assert lines[-2].endswith(" --purge autoremove")
    assert lines[-1] == "http://p:1 noninteractive"
