# SPDX-License-Identifier: GPL-3.0-or-later
"""A normal user for one command, who may use Incus; this machine has none.

The user exists in a mount namespace alone, in which a copy of /etc knows it.
"""

import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

_NAME, _ID = "builder", 59_999
_SUBORDINATE = f"{_NAME}:2000000000:65536\n"
_VIRT = Path(__file__).resolve().parents[2] / "virt"


def run(argv: Sequence[str], *, limit: float) -> None:
    """Run a command as the user, to its success, in ``limit`` seconds."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        words, environment = command(Path(name), argv)
        done = subprocess.run(
            words,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=limit,
        )
    assert done.returncode == 0, done.stderr


def command(
    folder: Path, argv: Sequence[str]
) -> tuple[list[str], dict[str, str]]:
    """Return what runs a command as the user, and its environment.

    ``folder`` must be open to all users.  As root.
    """
    etc, home, code = folder / "etc", folder / "home", folder / "virt"
    shutil.copytree("/etc", etc, symlinks=True)
    for name in ("passwd", "group"):
        entry = f"{_NAME}:x:{_ID}:"
        if name == "passwd":
            entry += f"{_ID}::{home}:/bin/sh"
        with (etc / name).open("a") as file:
            file.write(f"{entry}\n")
    for name in ("subuid", "subgid"):
        (etc / name).write_text(_SUBORDINATE)
    home.mkdir()
    os.chown(home, _ID, _ID)
    shutil.copytree(_VIRT, code)  # the checkout may be root's alone
    socket = Path(os.environ["INCUS_DIR"], "unix.socket")
    group = socket.stat().st_gid
    if not socket.stat().st_mode & stat.S_IWGRP:
        raise AssertionError(f"{socket} is not open to a group")
    script = 'mount --bind "$1" /etc; cd /; shift; exec "$@"'
    return [
        *("unshare", "--mount", "sh", "-euc", script, "sh", str(etc)),
        *("setpriv", f"--reuid={_ID}", f"--regid={_ID}", f"--groups={group}"),
        *argv,
    ], {
        **os.environ,
        "HOME": str(home),
        "PATH": f"{code}:/usr/bin:/bin",
        "PYTHONPATH": str(code),
    }
