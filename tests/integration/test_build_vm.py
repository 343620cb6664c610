# SPDX-License-Identifier: GPL-3.0-or-later
"""A normal user builds a disk for virtual machines, which is a whole one.

That it boots is tested by make check-vm.
"""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from incus_testbed.bootstrap import apt
from incus_testbed.incus.client import Incus
from tests.integration.conftest import Cli
from tests.support import normal_user

_ARCHITECTURE = apt.architecture()
_ALIAS = f"autopkgtest/debian/trixie/{_ARCHITECTURE}/vm"
#: Seconds.
_LIMIT = 600

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        _ARCHITECTURE not in {"amd64", "arm64"},
        reason="virtual machines are built for amd64 and arm64",
    ),
]


@pytest.fixture(scope="module")
def disk(cli: Cli, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return the disk that Incus has got, as a raw file."""
    folder = tmp_path_factory.mktemp("disk")
    normal_user.run(
        ["autopkgtest-build-incus-testbed", "trixie", "--vm"], limit=_LIMIT
    )
    _run("incus", "image", "export", _ALIAS, str(folder / "image"))
    raw = folder / "raw"
    _run("qemu-img", "convert", "-O", "raw", f"{folder}/image.root", str(raw))
    yield raw
    raw.unlink()
    cli.output("remove", _ALIAS)


def _run(*argv: str) -> str:
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=_LIMIT,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.usefixtures("disk")
def test_the_import_knows_what_it_is(incus: Incus) -> None:
    properties = incus.image(_ALIAS).properties

    assert properties["release"] == "trixie"
    assert properties["incus-testbed.agent"] == "image"
    for unneeded in (
        "incus-testbed.network",  # it has a file for its NIC
        "requirements.secureboot",  # its boot loader is signed
        "requirements.cdrom_agent",  # its kernel has 9p
    ):
        assert unneeded not in properties


def test_its_parts(disk: Path) -> None:
    said = json.loads(_run("sfdisk", "--json", str(disk)))["partitiontable"]
    esp, root = said["partitions"]
    assert esp["type"] == "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"

    files = _run("mdir", "-/", "-b", "-i", f"{disk}@@{esp['start'] * 512}")
    assert {name.lower() for name in files.split() if "." in name} >= {
        "::/efi/boot/bootx64.efi",
        "::/efi/boot/grubx64.efi",
        "::/efi/debian/grub.cfg",
    }

    begin = root["start"] * 512
    probed = _run("blkid", "-p", "-o", "export", "-O", str(begin), str(disk))
    assert {"TYPE=ext4", "LABEL=root"} <= set(probed.splitlines())


def test_its_root(disk: Path) -> None:
    """It is whole, belongs to root, and is not this machine's."""
    said = json.loads(_run("sfdisk", "--json", str(disk)))["partitiontable"]
    begin = said["partitions"][1]["start"] * 512
    there = f"{disk}?offset={begin}"
    _run("e2fsck", "-f", "-n", there)

    def debugfs(request: str) -> str:
        return _run("debugfs", "-R", request, there)

    assert "user:x:1000:" in debugfs("cat /etc/passwd")
    assert debugfs("cat /etc/machine-id") == ""
    assert debugfs("stat /etc/hostname") == ""
    assert "boot/vmlinuz-" in debugfs("stat /vmlinuz")
    assert "User:     0" in debugfs("stat /usr/bin/dpkg-source")
