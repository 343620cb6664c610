# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of a few MiB that look like a Debian system, but don't boot."""

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support import disks
from tests.support.disks import MIB

ESP_SIZE, ROOT_SIZE = 40 * MIB, 24 * MIB
ROOT_START = MIB + ESP_SIZE
SIZE = ROOT_START + ROOT_SIZE + MIB

_STATUS = """\
Package: {name}
Status: install ok installed
Version: {version}
Architecture: amd64

"""
AGENT = {"etc/systemd/system/incus-agent.service": "[Service]\n"}
CLOUD_KERNEL = {"usr/lib/modules/6.1-cloud/kernel/fs/ext4/ext4.ko": ""}


def system(version: str = "257.8-1", **more: str) -> dict[str, str]:
    """Return the files of a system with this systemd, and others."""
    return {
        "etc/os-release": "ID=debian\nVERSION_CODENAME=trixie\n",
        "usr/lib/systemd/systemd": "an ELF program",
        "usr/lib/modules/6.12/kernel/fs/9p/9p.ko.xz": "",
        "var/lib/dpkg/status": _STATUS.format(name="systemd", version=version)
        + _STATUS.format(name="dpkg", version="1.22"),
        **more,
    }


def make(
    disk: Path,
    files: dict[str, str],
    *,
    loader: str | None = "BOOTX64.EFI",
    label: str = "gpt",
    fat: Sequence[str] = ("-F", "16", "-s", "2"),
    ext4: Sequence[str] = (),
    esp_type: str = disks.ESP_TYPE,
) -> None:
    """Make a disk with these files, and /sbin/init a link to systemd."""
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        root = scratch / "root"
        for path, text in files.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
        (root / "usr/sbin").mkdir(parents=True, exist_ok=True)
        (root / "sbin").symlink_to("usr/sbin")
        (root / "usr/sbin/init").symlink_to("/usr/lib/systemd/systemd")
        for number in range(300):  # so that a directory has several blocks
            (root / f"etc/file-with-a-rather-long-name-{number}").touch()
        part = scratch / "part"
        disks.make_ext4(root, part, ROOT_SIZE, *ext4)
        disks.truncate(disk, SIZE)
        disks.partition(
            disk,
            [
                (MIB, ESP_SIZE, esp_type),
                (ROOT_START, ROOT_SIZE, "L" if label == "dos" else "linux"),
            ],
            label,
        )
        disks.copy(part, disk, ROOT_START)
        disks.truncate(part, ESP_SIZE)
        subprocess.run(
            ["mkfs.vfat", *fat, part], check=True, stdout=subprocess.DEVNULL
        )
        if loader:
            (scratch / "loader").write_bytes(b"MZ" + bytes(3000))
            for folder in ("EFI", "EFI/BOOT"):
                subprocess.run(["mmd", "-i", part, f"::/{folder}"], check=True)
            subprocess.run(
                ["mcopy", "-i", part, scratch / "loader",
                 f"::/EFI/BOOT/{loader}"],
                check=True,
            )  # fmt: skip
        disks.copy(part, disk, MIB)


@contextmanager
def made(files: dict[str, str], **options: object) -> Iterator[Path]:
    """Give a disk for a while."""
    with tempfile.TemporaryDirectory() as name:
        disk = Path(name) / "disk"
        make(disk, files, **options)  # type: ignore[arg-type]
        yield disk
