# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks in the shapes that other people give to theirs.

The packages come from Debian's own mirror; what the makers of such disks add is
added here.  To boot them in emulation within minutes, their initramfs has few
modules, and the kernel writes little to the console.
"""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import disks, images, shapes, xfs
from tests.support.disks import MIB

#: GRUB of Debian 12 can't read the first of these, its fsck not the second.
_EXT4 = ("-O", "^metadata_csum_seed,^orphan_file")
_UUID = "8c2b5a4e-34ab-4d07-9f9b-6f2d6c0f2a11"
_ROOT_SIZE = 2048 * MIB
_ESP_SIZE = 124 * MIB
_BIOS_TYPE = "21686148-6449-6E6F-744E-656564454649"
_LVM_TYPE = "E6D6D379-F507-44C2-A23C-238F2A3DF928"
_LUKS_TYPE = "CA7D7CCB-63ED-4C53-861C-1742536059CC"
#: Where pvcreate of LVM writes its label, and cryptsetup its header.
_LVM = (512, b"LABELONE".ljust(24, b"\0") + b"LVM2 001")
_LUKS = (0, b"LUKS\xba\xbe\0\2")

_QUIET = "loglevel=3 mitigations=off"
_MODULES = "virtio_pci virtio_blk virtio_scsi sd_mod ext4 xfs btrfs"
_SMALL_INITRAMFS = (
    'echo MODULES=list > "$1/etc/initramfs-tools/conf.d/small"',
    f'printf "%s\\n" {_MODULES} >> "$1/etc/initramfs-tools/modules"',
    'chroot "$1" update-initramfs -u -k all >/dev/null',
)
_CLEAN = (
    # Empty: with an id of "uninitialized" it would be a first boot.
    ': > "$1/etc/machine-id"',
    # cloud-init makes a machine's own
    'rm -f "$1"/etc/ssh/ssh_host_*',
    'rm -f "$1"/var/lib/apt/lists/*_* "$1"/var/cache/apt/*.bin',
)


@dataclass(frozen=True, kw_only=True)
class DiskShape:
    """One kind of disk.

    ``loader`` is grub or systemd-boot.  ``root`` is a file system, or lvm or
    luks, which are then empty.  ``cloud``: the partitions are in the place and
    of the number that cloud.debian.org gives them.  ``refusal`` is what an
    import says that refuses it, ``warning`` one that does not, and ``fails``
    are the units that fail in it; most are empty.
    """

    suite: str
    kernel: str = "linux-image-amd64"
    packages: tuple[str, ...] = ()
    loader: str = "grub"
    root: str = "ext4"
    cloud: bool = False
    files: Mapping[str, str] = field(default_factory=dict)
    enable: tuple[str, ...] = ()
    refusal: str = ""
    warning: str = ""
    fails: str = ""

    def write(self, disk: Path) -> None:
        """Write it to a file, as root.

        :raises ImageError: apt has no Debian source, or a program failed
        """
        with (
            tempfile.TemporaryDirectory(dir=disk.parent) as name,
            _unpacked(self._tarball(), Path(name) / "root") as root,
        ):
            scratch = Path(name)
            esp, part = scratch / "esp", scratch / "part"
            _set_up_boot(root, self)
            _write_esp(root, esp, self)
            _write_root(root, part, self.root)
            _join(disk, esp, part, self)

    def _tarball(self) -> Path:
        packages = [
            *(self.kernel, "initramfs-tools", "e2fsprogs", "dbus", "udev"),
            *("iproute2", "systemd-boot-efi", "shim-signed"),
            *("grub-efi-amd64-signed", *self.packages),
        ]
        if self.suite == "bullseye":
            packages.remove("systemd-boot-efi")  # it is in systemd
        return images.build(
            self.suite,
            packages,
            without=disks.EXCLUDED,
            hooks=[
                *(shapes.written(*file) for file in self.files.items()),
                *(f'chroot "$1" systemctl enable {u}' for u in self.enable),
                *_SMALL_INITRAMFS,
                *_CLEAN,
            ],
        )


@contextlib.contextmanager
def _unpacked(tarball: Path, root: Path) -> Iterator[Path]:
    root.mkdir()
    disks.run(
        *("tar", "--extract", "--numeric-owner", "--same-permissions"),
        *("--zstd", "--file", tarball, "--directory", root),
    )
    # The kernel fills it, and mkfs.xfs is told of no devices.
    shutil.rmtree(root / "dev")
    (root / "dev").mkdir()
    yield root


def _set_up_boot(root: Path, shape: DiskShape) -> None:
    """Write what mounts the root, and GRUB's menu, as grub-mkconfig does."""
    options = "defaults" if shape.root == "btrfs" else "errors=remount-ro"
    kind = shape.root if shape.root in {"xfs", "btrfs"} else "ext4"
    if kind == "xfs":
        options = "defaults"
    (root / "etc/fstab").write_text(f"LABEL=root / {kind} {options} 0 1\n")
    if "incus-agent" in shape.packages:
        # The package runs an agent of its own, which says nothing.
        drop_in = root / "etc/systemd/system/incus-agent.service.d/test.conf"
        drop_in.parent.mkdir()
        drop_in.write_text(
            "[Service]\nExecStart=\nExecStart=/run/incus_agent/incus-agent\n"
        )
    kernel, initrd = _kernel(root)
    grub = root / "boot/grub"
    grub.mkdir(exist_ok=True)
    (grub / "grub.cfg").write_text(
        "set timeout=0\nmenuentry Debian {\n"
        f"search --no-floppy --fs-uuid --set=root {_UUID}\n"
        f"linux /boot/{kernel.name} root=UUID={_UUID} ro"
        f" console=tty0 console=ttyS0,115200 {_QUIET}\n"
        f"initrd /boot/{initrd.name}\n}}\n"
    )


def _kernel(root: Path) -> tuple[Path, Path]:
    (kernel,) = root.glob("boot/vmlinuz-*")
    (initrd,) = root.glob("boot/initrd.img-*")
    return kernel, initrd


def _write_esp(root: Path, esp: Path, shape: DiskShape) -> None:
    disks.truncate(esp, _ESP_SIZE)
    disks.run("mkfs.vfat", "-F", "32", "-n", "ESP", esp)
    if shape.loader == "systemd-boot":
        disks.fill_esp(root, esp)
        return
    text = esp.with_suffix(".cfg")
    text.write_text(
        f"search.fs_uuid {_UUID} root\n"
        "set prefix=($root)'/boot/grub'\nconfigfile $prefix/grub.cfg\n"
    )
    shim = root / "usr/lib/shim/shimx64.efi.signed"
    signed = root / "usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed"
    disks.fill(
        esp,
        {
            "EFI/BOOT/BOOTX64.EFI": shim,
            "EFI/BOOT/grubx64.efi": signed,
            "EFI/debian/shimx64.efi": shim,
            "EFI/debian/grubx64.efi": signed,
            "EFI/debian/grub.cfg": text,
        },
    )


def _write_root(root: Path, part: Path, kind: str) -> None:
    if kind == "ext4":
        disks.make_ext4(root, part, _ROOT_SIZE, "-U", _UUID, *_EXT4)
        return
    disks.truncate(part, _ROOT_SIZE)
    if kind == "btrfs":
        disks.run("mkfs.btrfs", "--quiet", "--label", "root", "--rootdir", root,
                  part)  # fmt: skip
    elif kind == "xfs":
        xfs.make(root, part)
    else:
        place, mark = {"lvm": _LVM, "luks": _LUKS}[kind]
        with part.open("r+b") as file:
            file.seek(place)
            file.write(mark)


def _join(disk: Path, esp: Path, part: Path, shape: DiskShape) -> None:
    kind = {"lvm": _LVM_TYPE, "luks": _LUKS_TYPE}.get(
        shape.root, disks.ROOT_TYPE
    )
    if shape.cloud:
        # In the order of the numbers, which is not that of the places.
        bios, start = 1 * MIB, 4 * MIB
        parts = {
            1: (start + _ESP_SIZE, _ROOT_SIZE, kind),
            14: (bios, 3 * MIB, _BIOS_TYPE),
            15: (start, _ESP_SIZE, disks.ESP_TYPE),
        }
    else:
        start = 1 * MIB
        parts = {
            1: (start, _ESP_SIZE, disks.ESP_TYPE),
            2: (start + _ESP_SIZE, _ROOT_SIZE, kind),
        }
    disks.truncate(disk, start + _ESP_SIZE + _ROOT_SIZE + MIB)
    disks.partition(disk, list(parts.values()), numbers=list(parts))
    disks.copy(esp, disk, start)
    disks.copy(part, disk, start + _ESP_SIZE)


_CLOUD_PACKAGES = (
    *("cloud-init", "netplan.io", "systemd-resolved", "openssh-server"),
    "sudo",
)
_NETPLAN = {"/etc/netplan/90-default.yaml": shapes.NETPLAN}
_WIRED = {
    "/etc/systemd/network/20-wired.network": "[Match]\nName=en*\n\n"
    "[Network]\nDHCP=yes\n"
}


SHAPES = {
    # Those of cloud.debian.org: no agent, and a kernel without 9p.
    **{
        f"genericcloud {number}": DiskShape(
            suite=suite,
            kernel="linux-image-cloud-amd64",
            packages=_CLOUD_PACKAGES,
            cloud=True,
            files=_NETPLAN,
            fails="ssh.service",
            enable=("systemd-networkd",),
        )
        for number, suite in {13: "trixie", 12: "bookworm"}.items()
    },
    # Its systemd takes no credentials.
    "genericcloud 11": DiskShape(
        suite="bullseye",
        kernel="linux-image-cloud-amd64",
        packages=("cloud-init", "ifupdown", "isc-dhcp-client"),
        cloud=True,
        refusal="Nothing in the disk starts Incus' agent",
    ),
    **{
        name: DiskShape(
            suite="trixie",
            packages=("incus-agent", "xfsprogs", "btrfs-progs"),
            loader="systemd-boot",
            root=name,
            warning=f"root file system ({name}) can't be read here",
            files=_WIRED,
            enable=("systemd-networkd",),
        )
        for name in ("xfs", "btrfs")
    },
    **{
        name: DiskShape(
            suite="trixie",
            packages=("systemd-resolved",),
            loader="systemd-boot",
            root=name.lower(),
            files=_WIRED,
            enable=("systemd-networkd",),
            refusal=f"The disk's root file system is {how}",
        )
        for name, how in {
            "LVM": "inside LVM",
            "LUKS": "encrypted (LUKS)",
        }.items()
    },
}
