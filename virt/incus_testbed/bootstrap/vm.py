# SPDX-License-Identifier: GPL-3.0-or-later
"""What a virtual machine has beside a container: a kernel, a loader, an agent.

GRUB is its boot loader, not systemd-boot: it reads the kernel from the root
file system, so an upgraded kernel is booted without more, and Debian's shim and
GRUB are signed, so Secure Boot can stay on.

The agent is the one that Incus shares with each virtual machine, of the same
version as the server.
"""

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePath

from incus_testbed import errors
from incus_testbed.customise.vm import entries
from incus_testbed.system.entry import Entry

#: The label of the root file system.
ROOT = "root"

#: The generic kernel, because that for clouds lacks 9p, by which the agent
#: comes.  e2fsprogs checks the root file system.
_PACKAGES = ("e2fsprogs", "initramfs-tools", "shim-signed")
#: Packages that are a part of the package systemd in older releases.
_PARTS_OF_SYSTEMD = ("systemd-repart", "systemd-resolved")

_FSTAB = Entry(
    path="etc/fstab",
    kind="file",
    content=b"LABEL=%b / ext4 errors=remount-ro,x-systemd.growfs 0 1\n"
    % ROOT.encode(),
)
#: Has systemd-repart enlarge the last partition to the end of the disk.
_REPART = Entry(
    path="etc/repart.d/50-root.conf",
    kind="file",
    content=b"[Partition]\nType=linux-generic\n",
)
_RESOLVER = Entry(
    path="etc/resolv.conf",
    kind="symlink",
    target="../run/systemd/resolve/stub-resolv.conf",
)


@dataclass(frozen=True, kw_only=True)
class VM:
    """The virtual machines of an architecture.

    ``suffix`` is of EFI programs (UEFI specification 2.10, 3.5.1.1), ``grub``
    GRUB's name of the platform, ``console`` the serial one.
    """

    architecture: str
    suffix: str
    grub: str
    console: str

    @property
    def loaders(self) -> Mapping[str, str]:
        """The files of the EFI system partition, as the packages have them."""
        return {
            f"EFI/BOOT/BOOT{self.suffix.upper()}.EFI": "/usr/lib/shim/"
            f"shim{self.suffix}.efi.signed",
            f"EFI/BOOT/grub{self.suffix}.efi": "/usr/lib/grub/"
            f"{self.grub}-signed/grub{self.suffix}.efi.signed",
        }

    @property
    def configuration(self) -> tuple[str, str]:
        """The name and text of what Debian's signed GRUB reads."""
        # Packages of kernels keep these links in /.
        return "EFI/debian/grub.cfg", (
            f"search --no-floppy --label --set=root {ROOT}\n"
            f"linux /vmlinuz root=LABEL={ROOT} ro console=tty0"
            f" console={self.console}\n"
            "initrd /initrd.img\n"
            "boot\n"
        )

    def options(self) -> Iterator[str]:
        """Yield what mmdebstrap is told for it."""
        packages = (
            *_PACKAGES,
            f"linux-image-{self.architecture}",
            f"grub-efi-{self.architecture}-signed",
        )
        yield f"--include={','.join(packages)}"
        for name in _PARTS_OF_SYSTEMD:
            # Of these, apt takes those that there are.
            yield f"--include=?or(?exact-name({name}),?exact-name(systemd))"
        for entry in (*entries(), _FSTAB, _REPART, _RESOLVER):
            yield f"--customize-hook={_hook(entry)}"
        yield '--customize-hook=chroot "$1" systemctl enable systemd-networkd'


_VMS = {
    vm.architecture: vm
    for vm in (
        VM(
            architecture="amd64",
            suffix="x64",
            grub="x86_64-efi",
            console="ttyS0",
        ),
        VM(
            architecture="arm64",
            suffix="aa64",
            grub="arm64-efi",
            console="ttyAMA0",
        ),
    )
}


def of(architecture: str) -> VM:
    """Return what virtual machines of a Debian architecture have.

    :raises errors.Unsupported: there is none that is known to boot by EFI
    """
    try:
        return _VMS[architecture]
    except KeyError:
        raise errors.Unsupported(
            f"No virtual machine can be built for {architecture}",
            details=f"They are built for {' and '.join(_VMS)}.",
            resolution="Build a container, without --vm, or choose another"
            " --arch.",
        ) from None


def _hook(entry: Entry) -> str:
    """Return a shell command that adds an entry to the folder $1."""
    path = f'"$1"/{shlex.quote(entry.path)}'
    folder = f'mkdir -p "$1"/{shlex.quote(str(PurePath(entry.path).parent))}'
    if entry.kind == "symlink":
        return f"{folder}; ln -sf {shlex.quote(entry.target)} {path}"
    text = (entry.content or b"").decode()
    return f"{folder}; printf %s {shlex.quote(text)} >{path}"
