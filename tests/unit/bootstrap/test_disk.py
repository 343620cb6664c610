# SPDX-License-Identifier: GPL-3.0-or-later
"""A tarball becomes a disk that boots, or nothing at all."""

import contextlib
import io
import os
import tarfile
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import PurePath

import pytest

from incus_testbed import errors
from incus_testbed.bootstrap import disk, mmdebstrap, recipe, vm
from incus_testbed.bootstrap.apt import Debian, Source
from incus_testbed.bootstrap.build import build
from incus_testbed.bootstrap.mmdebstrap import Bootstrap
from incus_testbed.bootstrap.request import Request
from incus_testbed.image.disk import qcow2
from incus_testbed.image.disk.fat import Fat
from incus_testbed.image.disk.partitions import partitions
from incus_testbed.image.disk.reader import Reader
from incus_testbed.image.disk.survey import survey
from incus_testbed.limits.budget import Budget, Meter
from incus_testbed.process import sandbox
from tests.support import small_disks
from tests.support.fake_incus import FakeIncus
from tests.unit.bootstrap.conftest import Machine

_TRIXIE = Request(suite="trixie", architecture="amd64", vm=True)
_ALIAS = "autopkgtest/debian/trixie/amd64/vm"
_GIB = 1 << 30

#: What runs instead of the programs that write a disk: mke2fs fails as told,
#: but not when check() tries it.
_SCRIPTS = {
    "_SFDISK": "exit 0",
    "_MKFS_VFAT": "exit 0",
    "_MMD": "exit 0",
    "_MCOPY": "exit 0",
    "_MKE2FS": """
        case $* in
            *offset=*) ;;
            *) exit 0 ;;
        esac
        if [ ! -e "$there/mke2fs" ]; then
            exec cat
        fi
        [ -e "$there/endless" ] || cat
        cat "$there/mke2fs" >&2
        exit 1
        """,
}


@pytest.fixture
def host(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Have a script for each program that writes a disk."""
    for constant, script in _SCRIPTS.items():
        path = machine.write(
            constant, f"#!/bin/sh\nthere={machine.there}\n{script}\n"
        )
        path.chmod(0o755)
        monkeypatch.setattr(disk, constant, str(path))
    monkeypatch.setattr(sandbox, "_works", lambda: False)  # they are not in it
    return machine


@pytest.fixture
def incus() -> FakeIncus:
    return FakeIncus.set_up()


def _options(architecture: str = "amd64") -> list[str]:
    request = Request(suite="sid", architecture=architecture, vm=True)
    mirror = Source(uri="http://mirror.example/debian", fields={})
    return [*recipe.arguments(request, Debian(main=mirror), [], {})]


def _packages(options: list[str]) -> set[str]:
    return {
        package
        for option in options
        if option.startswith("--include=")
        for package in option.removeprefix("--include=").split(",")
    }


@pytest.mark.parametrize("architecture", ["amd64", "arm64"])
def test_what_a_machine_has_beside_a_container(architecture: str) -> None:
    options = _options(architecture)

    assert _packages(options) > {
        "ca-certificates",
        "dpkg-dev",
        f"linux-image-{architecture}",
        f"grub-efi-{architecture}-signed",
        "shim-signed",
    }
    hooks = "\n".join(each for each in options if "hook=" in each)
    for path in (
        "etc/fstab",
        "etc/repart.d/50-root.conf",
        "etc/systemd/system/incus-agent.service",
        "etc/systemd/network/zz-incus-testbed.network",
    ):
        assert f'>"$1"/{path}' in hooks
    assert "useradd" in hooks
    assert options[-1] == "sid"


def test_firmware_and_console_of_arm64() -> None:
    """The names are of UEFI, of Debian's packages, and of the PL011 driver."""
    machine = vm.of("arm64")

    assert machine.loaders == {
        "EFI/BOOT/BOOTAA64.EFI": "/usr/lib/shim/shimaa64.efi.signed",
        "EFI/BOOT/grubaa64.efi": (
            "/usr/lib/grub/arm64-efi-signed/grubaa64.efi.signed"
        ),
    }
    _, text = machine.configuration
    assert "console=ttyAMA0\n" in text
    assert "ttyS0" not in text


def test_a_container_has_no_kernel() -> None:
    request = Request(suite="sid", architecture="amd64")
    mirror = Source(uri="http://mirror.example/debian", fields={})
    options = recipe.arguments(request, Debian(main=mirror), [], {})

    assert "linux-image" not in " ".join(options)


@pytest.mark.parametrize("architecture", ["i386", "armhf", "riscv64"])
def test_a_machine_that_can_not_be_built(architecture: str) -> None:
    with pytest.raises(errors.Unsupported, match=architecture) as caught:
        Request(suite="sid", architecture=architecture, vm=True)

    assert "without --vm" in caught.value.resolution


def test_its_alias() -> None:
    assert _TRIXIE.name == _ALIAS
    mine = Request(suite="sid", architecture="amd64", vm=True, alias="mine")
    assert mine.name == "mine"


def test_programs_that_are_missing_are_named_together(
    host: Machine, incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_SFDISK", "/nowhere/sfdisk")
    monkeypatch.setattr(disk, "_MMD", "/nowhere/mmd")
    monkeypatch.setattr(disk, "_MCOPY", "/nowhere/mcopy")

    with pytest.raises(errors.MissingProgram) as caught:
        build(incus, _TRIXIE)

    assert caught.value.resolution.endswith("apt install fdisk mtools")
    assert host.has_started_nothing()


def test_an_older_mke2fs(host: Machine, incus: FakeIncus) -> None:
    """It takes the name of the tarball, standard input, for a folder's."""
    host.write("_MKE2FS", "#!/bin/sh\necho 'No such file' >&2\nexit 1\n")

    with pytest.raises(errors.MissingProgram, match="tarball") as caught:
        build(incus, _TRIXIE)

    assert "bookworm-backports" in caught.value.resolution
    assert host.has_started_nothing()


@pytest.mark.parametrize(
    ("said", "error", "message"),
    [
        ("Could not allocate block in ext2", errors.NoSpace, "10 GiB"),
        ("write: No space left on device", errors.NoSpace, "No space left"),
        ("it is broken", errors.CommandFailed, "mke2fs failed"),
    ],
)
def test_a_root_that_can_not_be_written(
    host: Machine,
    incus: FakeIncus,
    said: str,
    error: type[errors.TestbedError],
    message: str,
) -> None:
    host.write("mke2fs", said)

    with pytest.raises(error, match=message):
        build(incus, _TRIXIE)

    assert incus.images() == []


def test_a_root_that_can_not_be_written_any_more(
    host: Machine, incus: FakeIncus
) -> None:
    """mmdebstrap, which would not notice it for minutes, is ended."""
    host.write("mke2fs", "it is broken")
    host.write("endless", "")

    with pytest.raises(errors.CommandFailed, match="mke2fs failed"):
        build(incus, _TRIXIE)

    assert (host.there / "cleaned").exists()


@pytest.mark.parametrize("tarball", ["whole", "half", "empty"])
def test_mmdebstraps_failure_comes_before_that_of_others(
    host: Machine, incus: FakeIncus, tarball: str
) -> None:
    path = host.there / "tarball"
    size = path.stat().st_size
    path.write_bytes(
        path.read_bytes()[: {"whole": size, "half": size // 2}.get(tarball, 0)]
    )
    host.write("status", "25")
    host.write("mke2fs", "half a tarball")

    with pytest.raises(errors.CommandFailed, match="status 25"):
        build(incus, _TRIXIE)

    assert incus.images() == []


def test_it_ends_in_time(
    host: Machine, incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "_TARBALL_LIMIT", 0.5)
    host.write("endless", "")

    with pytest.raises(errors.TimedOut):
        build(incus, _TRIXIE)

    assert (host.there / "cleaned").exists()


def test_an_interruption_lets_mmdebstrap_clean_up(
    host: Machine, incus: FakeIncus
) -> None:
    host.write("endless", "")
    host.write("said", "I: begun...\n")

    def interrupt(step: str) -> None:
        if step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(incus, _TRIXIE, interrupt)

    assert (host.there / "cleaned").exists()
    assert incus.images() == []


# -- with the programs themselves


def _system() -> bytes:
    """Return a tarball that the survey of a disk takes for a system."""
    files = small_disks.system(**small_disks.AGENT)
    folders = {
        str(folder): None
        for path in (*files, "sbin/init")
        for folder in reversed(PurePath(path).parents[:-1])
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path in folders:
            member = tarfile.TarInfo(path)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        for path, text in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
        link = tarfile.TarInfo("sbin/init")
        link.type, link.linkname = tarfile.SYMTYPE, "/usr/lib/systemd/systemd"
        tar.addfile(link)
    return packed.getvalue()


@pytest.fixture
def real(machine: Machine) -> Machine:
    """Have mmdebstrap send a system, and programs that make a disk of it."""
    try:
        disk.check()
    except errors.MissingProgram as error:
        pytest.skip(str(error))
    (machine.there / "tarball").write_bytes(_system())
    return machine


@contextlib.contextmanager
def _made() -> Iterator[Reader]:
    def running(*more: str) -> AbstractContextManager[Bootstrap]:
        return mmdebstrap.running([*more, "trixie"], "", {})

    kind = vm.of("amd64")
    with disk.made(kind, running, lambda _: None) as image:
        header = qcow2.header(os.pread(image.fileno(), qcow2.HEADER, 0))
        yield Reader(image, header, Meter())


@pytest.mark.slow
@pytest.mark.usefixtures("real")
def test_the_disk() -> None:
    with _made() as made:
        esp, root = partitions(made.read, made.size)
        assert esp.esp
        assert not root.esp
        assert root.start + root.size <= made.size == 10 * _GIB
        # ext4's label is at byte 120 of its superblock, which is at 1024
        assert made.read(root.start + 1144, 16).rstrip(b"\0") == b"root"

        fat = Fat(made.read, esp)
        assert fat.names("EFI", "BOOT").keys() == {"BOOTX64.EFI", "GRUBX64.EFI"}
        text = fat.names("EFI", "DEBIAN")["GRUB.CFG"]
        assert b"linux /vmlinuz root=LABEL=root" in fat.read(text, 0, 1000)

        system = survey(made, Budget())
        assert system.boot_loader.architectures == {"amd64"}
        assert system.agent
        assert system.has_9p
        assert system.facts
        assert system.facts.codename == "trixie"
        used = os.fstat(made.file.fileno()).st_size
        assert used < 64 << 20


@pytest.mark.slow
@pytest.mark.usefixtures("real")
def test_the_image(incus: FakeIncus) -> None:
    build(incus, _TRIXIE)

    (image,) = incus.images()
    assert image.aliases == (_ALIAS,)
    assert image.properties["incus-testbed.agent"] == "image"
    assert image.properties["incus-testbed.disk-size"] == str(10 * _GIB)
