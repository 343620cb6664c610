# SPDX-License-Identifier: GPL-3.0-or-later
"""Small Debian disks that boot by EFI, from this machine's own apt sources.

    python3 -m tests.support.disks SUITE [--agent]

prints the path of a raw disk image, made at need and kept for a week: a GPT,
an EFI system partition with systemd-boot, and an ext4 root file system.
"""

import argparse
import fcntl
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from incus_testbed.bootstrap.apt import Debian
from tests.support import images
from tests.support.images import ImageError

MIB = 1 << 20
#: Where the partitions are, and how long.
ESP_START, ESP_SIZE = 1 * MIB, 80 * MIB
ROOT_START, ROOT_SIZE = ESP_START + ESP_SIZE, 2048 * MIB
_END = 1 * MIB  # for the second copy of the partition table

ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
ROOT_TYPE = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"

#: Raise it when the same inputs have come to make something else.
_RECIPE = "3"

_PACKAGES = {
    "dbus",
    "initramfs-tools",
    "iproute2",
    "linux-image-amd64",
    "systemd-boot-efi",
    "systemd-sysv",
    "udev",
}
EXCLUDED = (
    "/usr/share/doc/*",
    "/usr/share/locale/*",
    "/usr/share/man/*",
    "/lib/modules/*/kernel/drivers/gpu/*",
    "/lib/modules/*/kernel/drivers/media/*",
    "/lib/modules/*/kernel/drivers/net/wireless/*",
    "/lib/modules/*/kernel/sound/*",
    "/usr/lib/modules/*/kernel/drivers/gpu/*",
    "/usr/lib/modules/*/kernel/drivers/media/*",
    "/usr/lib/modules/*/kernel/drivers/net/wireless/*",
    "/usr/lib/modules/*/kernel/sound/*",
)
_INITRD_MODULES = "virtio_pci virtio_blk virtio_scsi sd_mod ext4"
_SETUP = (
    'mkdir -p "$1/etc/initramfs-tools/conf.d"'
    ' "$1/usr/share/initramfs-tools/modules.d"',
    'echo MODULES=list > "$1/etc/initramfs-tools/conf.d/small"',
    f'printf "%s\\n" {_INITRD_MODULES}'
    ' > "$1/usr/share/initramfs-tools/modules.d/small"',
)
_NETWORK = (
    "printf '[Match]\\nName=en* eth*\\n[Network]\\nDHCP=yes\\n'"
    ' > "$1/etc/systemd/network/10-dhcp.network"',
    'chroot "$1" systemctl enable systemd-networkd',
)
_FINISH = (
    'chroot "$1" passwd -d root >/dev/null',
    'echo "LABEL=root / ext4 rw,noatime 0 1" > "$1/etc/fstab"',
    # empty: it is no first boot, which takes long
    ': > "$1/etc/machine-id"',
    'rm -f "$1"/var/lib/apt/lists/*_* "$1"/var/cache/apt/*.bin',
)
_CONSOLE = "console=ttyS0 loglevel=3 mitigations=off"


def build(suite: str, *, agent: bool = False) -> Path:
    """Return a disk that boots a minimal system; as root.

    ``agent``: with units that start what Incus has for its virtual machines.

    :raises ImageError: apt has no Debian source, or a program failed
    """
    source = images.debian()
    text = images.stanza(source, suite)
    recipe = "\n".join(
        [
            _RECIPE,
            suite,
            str(agent),
            text,
            *sorted(_PACKAGES),
            *_SETUP,
            *_NETWORK,
            *_FINISH,
            *EXCLUDED,
        ]
    )
    digest = hashlib.sha256(recipe.encode()).hexdigest()[:12]
    cache = images.cache_directory()
    cache.mkdir(parents=True, exist_ok=True)
    disk = cache / f"{suite}-{digest}.disk"
    with (cache / f"{disk.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not images.is_fresh(disk):
            _make(disk, suite, text, source, agent=agent)
    return disk


def _make(
    disk: Path, suite: str, stanza: str, source: Debian, *, agent: bool
) -> None:
    images.say(f"making a {suite} disk with mmdebstrap")
    with tempfile.TemporaryDirectory(
        prefix="debusine-incus-", dir=disk.parent
    ) as name:
        scratch = Path(name)
        root = scratch / "root"
        sources = scratch / "debian.sources"
        sources.write_text(stanza)
        hooks = [*_NETWORK, *_FINISH]
        run(
            *("mmdebstrap", "--mode=root", "--variant=apt"),
            f"--include={','.join(sorted(_PACKAGES | _certificates(source)))}",
            "--aptopt=APT::Install-Recommends 0",
            "--dpkgopt=force-unsafe-io",
            *(f"--dpkgopt=path-exclude={path}" for path in EXCLUDED),
            *images.apt_options(source),
            *(f"--essential-hook={hook}" for hook in _SETUP),
            *(f"--customize-hook={hook}" for hook in hooks),
            *(suite, root, sources),
        )
        if agent:
            _install_agent(root)
        partial = scratch / "disk"
        assemble(root, partial)
        shutil.rmtree(root)
        partial.rename(disk)


def _certificates(source: Debian) -> set[str]:
    return (
        {"ca-certificates"} if source.main.uri.startswith("https:") else set()
    )


def _install_agent(root: Path) -> None:
    """Put units in, under the names that Incus' own images have."""
    unit = root / "etc/systemd/system/incus-agent.service"
    unit.write_text(
        "[Unit]\nDescription=Incus agent\n"
        "[Service]\nExecStart=/run/incus_agent/incus-agent\n"
    )
    rules = root / "etc/udev/rules.d/99-incus-agent.rules"
    rules.write_text(
        'SYMLINK=="virtio-ports/org.linuxcontainers.incus", TAG+="systemd",'
        ' ENV{SYSTEMD_WANTS}+="incus-agent.service"\n'
    )


def assemble(root: Path, disk: Path) -> None:
    """Make a disk of a root file system that holds kernel and boot loader."""
    esp, ext4 = disk.with_suffix(".esp"), disk.with_suffix(".ext4")
    truncate(esp, ESP_SIZE)
    run("mkfs.vfat", "-F", "32", "-n", "ESP", esp)
    fill_esp(root, esp)
    shutil.rmtree(root / "boot")
    (root / "boot").mkdir()
    make_ext4(root, ext4, ROOT_SIZE)
    truncate(disk, ROOT_START + ROOT_SIZE + _END)
    partition(
        disk,
        [(ESP_START, ESP_SIZE, ESP_TYPE), (ROOT_START, ROOT_SIZE, ROOT_TYPE)],
    )
    for part, start in ((esp, ESP_START), (ext4, ROOT_START)):
        copy(part, disk, start)
        part.unlink()


def make_ext4(root: Path, file: Path, size: int, *options: str) -> None:
    """Make a file system of a folder."""
    truncate(file, size)
    run("mke2fs", "-q", "-F", "-t", "ext4", "-L", "root", *options,
         "-d", root, file)  # fmt: skip


def partition(
    disk: Path,
    parts: Sequence[tuple[int, int, str]],
    label: str = "gpt",
    numbers: Sequence[int] = (),
) -> None:
    """Write a partition table: starts and sizes in bytes, and types.

    Without ``numbers`` the partitions are counted.
    """
    lines = [f"label: {label}"] + [
        f"{number} : start={start // 512}, size={size // 512}, type={kind}"
        for number, (start, size, kind) in zip(
            numbers or range(1, len(parts) + 1), parts, strict=True
        )
    ]
    run("sfdisk", "--quiet", disk, stdin="\n".join(lines))


def copy(part: Path, disk: Path, start: int) -> None:
    """Copy a file into another from an offset on, holes left as they are."""
    run(
        *("dd", f"if={part}", f"of={disk}", "bs=1M", f"seek={start // MIB}"),
        *("conv=notrunc,sparse", "status=none"),
    )


def truncate(file: Path, size: int) -> None:
    """Make a file of this size, all of it a hole."""
    with file.open("wb") as made:
        made.truncate(size)


def fill_esp(root: Path, esp: Path) -> None:
    """Have systemd-boot start the system's only kernel."""
    (kernel,) = root.glob("boot/vmlinuz-*")
    (initrd,) = root.glob("boot/initrd.img-*")
    loader = root / "usr/lib/systemd/boot/efi/systemd-bootx64.efi"
    entry = esp.with_suffix(".conf")
    entry.write_text(
        "title Debian\nlinux /vmlinuz\ninitrd /initrd.img\n"
        f"options root=LABEL=root rw {_CONSOLE}\n"
    )
    fill(
        esp,
        {
            "EFI/BOOT/BOOTX64.EFI": loader,
            "vmlinuz": kernel,
            "initrd.img": initrd,
            "loader/entries/debian.conf": entry,
        },
    )
    entry.unlink()


def fill(esp: Path, files: Mapping[str, Path]) -> None:
    """Copy files to their paths in a FAT file system."""
    folders = {
        str(folder): None
        for name in files
        for folder in reversed(PurePosixPath(name).parents[:-1])
    }
    run("mmd", "-i", esp, *(f"::/{folder}" for folder in folders))
    for name, file in files.items():
        run("mcopy", "-i", esp, file, f"::/{name}")


def run(*argv: str | Path, stdin: str = "") -> None:
    """Run a program; an ImageError has the end of what it said."""
    result = subprocess.run(
        argv,
        input=stdin,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        last = result.stderr.splitlines()[-15:]
        raise ImageError("\n".join([f"{argv[0]} failed:", *last]))


def main() -> int:
    """Run the command line; give its exit status."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.support.disks")
    parser.add_argument("suite")
    parser.add_argument("--agent", action="store_true")
    arguments = parser.parse_args()
    try:
        print(build(arguments.suite, agent=arguments.agent))
    except ImageError as error:
        images.say(str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
