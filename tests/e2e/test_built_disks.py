# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks that build has made boot by EFI, in a machine that QEMU emulates."""

import subprocess
from pathlib import Path

import pytest

from incus_testbed.incus.client import Incus
from tests.support import emulation

#: Seconds for a build; to boot.
_LIMIT = 900
_BOOT_LIMIT = 900.0


def _run(*argv: str) -> None:
    subprocess.run(argv, stdin=subprocess.DEVNULL, check=True, timeout=_LIMIT)


@pytest.mark.parametrize("suite", ["bookworm", "trixie", "sid"])
def test_boot(suite: str, incus: Incus, tmp_path: Path) -> None:
    """It starts Incus' agent, and grows to the size of its disk."""
    del incus
    alias = f"test/{suite}"
    _run("incus-testbed", "build", suite, "--vm", f"--alias={alias}")
    _run("incus", "image", "export", alias, str(tmp_path / "image"))
    _run("incus-testbed", "remove", alias)
    disk = tmp_path / "image.root"
    _run("qemu-img", "resize", "-q", "-f", "qcow2", str(disk), "20G")

    with emulation.booted(disk, {"security.secureboot": "false"}) as console:
        console.wait(
            emulation.STARTED,
            "resized filesystem to",
            emulation.RUNNING,
            timeout=_BOOT_LIMIT,
        )
