# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk images on a real Incus, which need not be able to run them."""

import json
import os
import shutil
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus
from tests.support import small_disks
from tests.support.small_disks import system

from .conftest import Cli

ALIAS = "artifact/4712"
#: Bytes that a conversion may take beside what comes out.
_SLACK = 8 << 20
_MOST_MEMORY = 64 << 20

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, ("mcopy", "mkfs.vfat", "sfdisk", "mke2fs"))),
    reason="mtools, dosfstools, fdisk or e2fsprogs are not installed",
)


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    with small_disks.made(system()) as made:
        with made.open("r+b") as file:  # something that does not pack
            file.seek(small_disks.ROOT_START + (20 << 20))
            file.write(os.urandom(3 << 20))
        yield made


@pytest.fixture(autouse=True)
def _clean(incus: Incus) -> Iterator[None]:
    yield
    for image in incus.images():
        if ALIAS in image.aliases or not image.aliases:
            incus.delete_image(image.fingerprint)


def shell(command: str, folder: Path) -> None:
    subprocess.run(["sh", "-ec", command], check=True, cwd=folder)


@pytest.mark.parametrize(
    "command",
    [
        "cp --sparse=always disk packed",
        'tar -cf - "$PWD/disk" 2>/dev/null | xz -0 >packed',
        "tar -S -cf - disk | zstd -q >packed",
        "qemu-img convert -f raw -O qcow2 -c disk packed",
        "qemu-img convert -f raw -O qcow2 disk q; xz -0 <q >packed",
    ],
)
def test_disk_becomes_a_virtual_machines_image(
    cli: Cli, incus: Incus, disk: Path, tmp_path: Path, command: str
) -> None:
    shutil.copy(disk, tmp_path / "disk")
    shell(command, tmp_path)
    packed = str(tmp_path / "packed")
    assert "is imported" in cli.output("import", packed, "--alias", ALIAS)
    image = Store(incus).find(ALIAS)
    assert image
    assert image.kind == "virtual-machine"
    assert image.architecture == "x86_64"
    assert image.profiles == ("debusine", "debusine-vm")
    assert image.properties["os"] == "debian"
    assert image.properties["release"] == "trixie"
    assert image.properties["incus-testbed.agent"] == "credentials"
    assert image.properties["requirements.secureboot"] == "false"
    said = incus.run("image", "info", ALIAS).decode()
    assert "virtual-machine" in said
    listed = cli.output("images")
    assert "virtual-machine, agent by credentials" in listed
    incus.run("image", "export", ALIAS, str(tmp_path / "out"), timeout=300)
    compared = subprocess.run(
        ["qemu-img", "compare", "-f", "raw", "-F", "qcow2", disk,
         tmp_path / "out.root"],
        check=False, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert compared.returncode == 0, compared.stdout


def test_verbose_says_who_starts_the_agent(cli: Cli, disk: Path) -> None:
    done = cli.run("-v", "import", str(disk), "--alias", ALIAS)
    assert done.returncode == 0, done.stderr
    assert "incus-testbed.agent=credentials" in done.stderr


def test_two_processes_import_once(cli: Cli, incus: Incus, disk: Path) -> None:
    children = [
        cli.start(
            *("import", str(disk), "--alias", ALIAS),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    said = [child.communicate(timeout=300) for child in children]
    assert [child.returncode for child in children] == [0, 0], said
    assert sum("is imported" in output for output, _ in said) == 1
    images = [image for image in incus.images() if ALIAS in image.aliases]
    assert len(images) == 1


@pytest.mark.parametrize("delay", [0.2, 0.5, 1.0])
def test_a_killed_import_leaves_no_file(
    cli: Cli, incus: Incus, disk: Path, tmp_path: Path, delay: float
) -> None:
    environment = {**cli.environment, "TMPDIR": str(tmp_path)}
    child = Cli(environment).start("import", str(disk), "--alias", ALIAS)
    time.sleep(delay)
    child.send_signal(signal.SIGKILL)
    child.wait(60)
    assert not list(tmp_path.iterdir())
    cli.output("import", str(disk), "--alias", ALIAS)
    cli.output("gc")
    assert not [image for image in incus.images() if not image.aliases]


def test_peak_disk_and_memory(
    cli: Cli, incus: Incus, disk: Path, tmp_path: Path
) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    packed = tmp_path / "packed"
    shutil.copy(disk, tmp_path / "disk")
    shell("tar -cf - disk | xz -0 >packed", tmp_path)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1G", "tmpfs", scratch], check=True
    )
    try:
        environment = {**cli.environment, "TMPDIR": str(scratch)}
        child = Cli(environment).start("import", str(packed), "--alias", ALIAS)
        taken = memory = 0
        while child.poll() is None:
            there = os.statvfs(scratch)
            used = (there.f_blocks - there.f_bfree) * there.f_frsize
            taken, memory = max(taken, used), max(memory, _peak(child.pid))
            time.sleep(0.005)
    finally:
        subprocess.run(["umount", scratch], check=True)
    assert child.returncode == 0
    image = Store(incus).find(ALIAS)
    assert image
    assert taken < image.size + _SLACK
    assert memory < _MOST_MEMORY


def _peak(process: int) -> int:
    """Return a process's peak memory in bytes."""
    status = Path(f"/proc/{process}/status").read_text()
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


def test_a_full_disk(
    cli: Cli, incus: Incus, disk: Path, tmp_path: Path
) -> None:
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", tmp_path], check=True
    )
    try:
        environment = {**cli.environment, "TMPDIR": str(tmp_path)}
        done = Cli(environment).run("import", str(disk), "--alias", ALIAS)
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "TMPDIR" in done.stderr
    assert Store(incus).find(ALIAS) is None


def _of_size(disk: Path, folder: Path, size: str) -> str:
    """Make a disk that says it is larger."""
    shutil.copy(disk, folder / "disk")
    shell("qemu-img convert -f raw -O qcow2 disk q", folder)
    shell(f"qemu-img resize -q -f qcow2 q {size}", folder)
    return str(folder / "q")


def test_too_large_for_the_profile(
    cli: Cli, incus: Incus, tmp_path: Path, disk: Path
) -> None:
    """The profile of virtual machines has the last word."""
    words = ("profile", "device", "set", "debusine-vm", "root")
    size = incus.profile("debusine-vm")["devices"]["root"]["size"]
    incus.run(*words, "size=4GiB")
    try:
        file = _of_size(disk, tmp_path, "5G")
        done = cli.run("import", file, "--alias", ALIAS)
    finally:
        incus.run(*words, f"size={size}")
    assert done.returncode == 1
    assert "larger than the profile debusine-vm allows" in done.stderr


def test_too_large_for_the_pool(cli: Cli, tmp_path: Path, disk: Path) -> None:
    done = cli.run("import", _of_size(disk, tmp_path, "50T"), "--alias", ALIAS)
    assert done.returncode == 1
    assert "too large for the storage pool" in done.stderr


def test_another_architecture(cli: Cli, tmp_path: Path) -> None:
    files = system()
    status = files["var/lib/dpkg/status"].replace("amd64", "s390x")
    files["var/lib/dpkg/status"] = status
    small_disks.make(tmp_path / "disk", files)
    done = cli.run("import", str(tmp_path / "disk"), "--alias", ALIAS)
    assert done.returncode == 1
    assert "is for s390x, which this server can't run" in done.stderr
    assert "an Incus server of s390x: incus-testbed --remote" in done.stderr


def test_a_root_file_system_that_is_not_read(
    cli: Cli, incus: Incus, tmp_path: Path
) -> None:
    """It is taken as it is, and what that means is said."""
    small_disks.make(tmp_path / "disk", system())
    with (tmp_path / "disk").open("r+b") as file:
        file.seek(small_disks.ROOT_START)
        file.write(b"XFSB" + bytes(1 << 20))
    done = cli.run("import", str(tmp_path / "disk"), "--alias", ALIAS)
    assert done.returncode == 0, done.stderr
    assert "root file system (xfs) can't be read here" in done.stderr
    assert "the package incus-agent" in done.stderr
    image = Store(incus).find(ALIAS)
    assert image
    assert image.properties["incus-testbed.file-system"] == "xfs"
    assert "virtual-machine, agent assumed" in cli.output("images")


@pytest.mark.parametrize(
    ("version", "warned"), [("255.4-1", True), ("256.1-1", False)]
)
def test_a_disk_of_one_machine(
    cli: Cli, incus: Incus, tmp_path: Path, version: str, warned: bool
) -> None:
    """Where a credential can't give each machine an address, that is said."""
    files = system(version, **{"etc/machine-id": "0123456789abcdef" * 2})
    small_disks.make(tmp_path / "disk", files)
    done = cli.run("import", str(tmp_path / "disk"), "--alias", ALIAS)
    assert done.returncode == 0, done.stderr
    assert ("(/etc/machine-id)" in done.stderr) == warned
    assert ("Empty that file" in done.stderr) == warned
    image = Store(incus).find(ALIAS)
    assert image
    assert image.properties.get("incus-testbed.lease") == (
        None if warned else "credentials"
    )
    # An agent would apply a template only when the system has booted.
    incus.run("image", "export", ALIAS, str(tmp_path / "out"), timeout=300)
    with tarfile.open(tmp_path / "out") as tar:
        assert "templates/empty.tpl" not in tar.getnames()


def test_json(cli: Cli, disk: Path) -> None:
    cli.output("import", str(disk), "--alias", ALIAS)
    images = json.loads(cli.output("images", "--format=json"))
    (image,) = (each for each in images if ALIAS in each["aliases"])
    assert image["type"] == "virtual-machine"
