# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks: of the machine that runs Incus, and of the VMs that run in it.

Each is made once, from this machine's own apt sources, and kept for a week
outside the repository.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from incus_testbed.bootstrap import recipe
from tests.support import images

SUITE = "trixie"

_HERE = Path(__file__).parent
_BOOTSTRAP = _HERE.parent / "bootstrap.sh"

#: A real worker's host has these beside what tests/bootstrap.sh installs.
_HOST_PACKAGES = (
    "apparmor",
    "e2fsprogs",
    "gdisk",
    "genisoimage",
    "initramfs-tools",
    "linux-image-cloud-amd64",
    "lxcfs",
    "openssh-server",
    "ovmf",
    "qemu-system-modules-opengl",
    "qemu-system-modules-spice",
    "qemu-system-x86",
    "rsync",
    "seabios",
    "systemd-resolved",
    "systemd-sysv",
    "udev",
    "virtiofsd",
    "zstd",
)
_HOST_SIZE = 24 << 30

#: Where the host keeps the disks of virtual machines.
GUESTS = "srv/vm"

_AGENT_PACKAGE = "incus-agent"
#: Debian's cloud kernel has no 9p, by which the agent comes.
_GUEST_PACKAGES = (
    "busybox-static",
    "dbus",
    "dpkg-dev",
    _AGENT_PACKAGE,
    "iproute2",
    "kmod",
    "linux-image-amd64",
    "passwd",
    "procps",
    "systemd-boot-efi",
    "systemd-sysv",
    "udev",
)
#: What mmdebstrap calls the sources that it is given.
_SOURCES = "/etc/apt/sources.list.d/0000debian.sources"
_MIB = 1 << 20
_ESP_SIZE = 96 * _MIB
_GUEST_SIZE = 900 * _MIB
_ESP_TYPE = "C12A7328-F81F-11D2-BA4B-00A0C93EC93B"
_ROOT_TYPE = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"


class DiskError(Exception):
    """A disk could not be made; says why."""


@dataclass(frozen=True)
class Bootable:
    """The machine's disk, and what starts it and lets one in."""

    directory: Path

    @property
    def disk(self) -> Path:
        """The raw disk, which nobody writes to any more."""
        return self.directory / "disk.raw"

    @property
    def kernel(self) -> Path:
        """The kernel."""
        return self.directory / "vmlinuz"

    @property
    def initrd(self) -> Path:
        """The initial RAM disk."""
        return self.directory / "initrd"

    @property
    def key(self) -> Path:
        """The private key that root lets in by ssh."""
        return self.directory / "key"


def host(
    tarballs: Sequence[Path] = (),
    *,
    suite: str = SUITE,
    packages: Sequence[str] = (),
) -> Bootable:
    """Return the disk of a machine, where nothing is set up yet.

    It holds the checkout's images of suites, and disks of virtual machines.
    ``suite`` is that of the machine, maybe one of backports; ``packages`` are
    those that it has beside what every machine has.
    """
    files = guests()
    all_packages = [
        *_run(_BOOTSTRAP, "list").split(),
        *_HOST_PACKAGES,
        *packages,
    ]
    inputs = [suite, *all_packages, _text("host.sh"), str(files)]
    inputs += [f"{each} {each.stat().st_mtime_ns}" for each in tarballs]

    def make(directory: Path) -> None:
        _host(directory, suite, all_packages, files, tarballs)

    return Bootable(kept("host", inputs, make))


def guests() -> Path:
    """Return a directory with disks of virtual machines.

    ``agent.raw`` has Incus' agent and ``plain.raw`` has not; ``vmlinuz`` and
    ``initrd`` start both.
    """
    inputs = [SUITE, *_GUEST_PACKAGES, _text("guest.sh")]
    return kept("guests", inputs, _guests)


def without_mirror(directory: Path) -> Path:
    """Return a copy of ``agent.raw``, in a directory, without apt sources."""
    disk = directory / "without-mirror.raw"
    _run("cp", "--sparse=always", guests() / "agent.raw", disk)
    _run(
        *("debugfs", "-w", "-R", f"rm {_SOURCES}"),
        f"{disk}?offset={_MIB + _ESP_SIZE}",
    )
    return disk


def cache_directory() -> Path:
    """Return where disks and the state of the machine are kept."""
    return images.cache_directory().parent / "vm"


def kept(
    name: str, inputs: Sequence[str], make: Callable[[Path], None]
) -> Path:
    """Return the directory that ``make`` fills, once a week."""
    digest = hashlib.sha256("\n".join(inputs).encode()).hexdigest()[:12]
    place = cache_directory() / f"{name}-{digest}"
    place.parent.mkdir(parents=True, exist_ok=True)
    with place.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not images.is_fresh(place):
            with _scratch() as scratch:
                made = scratch / "made"
                made.mkdir()
                make(made)
                shutil.rmtree(place, ignore_errors=True)
                made.rename(place)
    return place


@contextlib.contextmanager
def _scratch() -> Iterator[Path]:
    """Give a directory beside the kept ones."""
    scratch = Path(tempfile.mkdtemp(prefix="making-", dir=cache_directory()))
    try:
        yield scratch
    finally:
        # Not further than this file system, should something be mounted.
        _run("rm", "-rf", "--one-file-system", scratch)


def _host(
    directory: Path,
    suite: str,
    packages: Sequence[str],
    guests: Path,
    tarballs: Sequence[Path],
) -> None:
    images.say("making the disk of a machine for virtual machines")
    key = directory / "key"
    _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    with _tree(suite, packages, "host.sh", f"{key}.pub") as root:
        _take_kernel(root, directory)
        _run("cp", "--recursive", "--sparse=always", guests, root / GUESTS)
        cache = root / "root/.cache/debusine-incus/images"
        cache.mkdir(parents=True)
        for tarball in tarballs:
            shutil.copy2(tarball, cache)
        disk = directory / "disk.raw"
        with disk.open("wb") as file:
            file.truncate(_HOST_SIZE)
        _make_ext4(disk, root, "^has_journal")


def _guests(directory: Path) -> None:
    images.say("making disks of virtual machines")
    with _tree(SUITE, _GUEST_PACKAGES, "guest.sh") as root:
        _take_kernel(root, directory)
        shutil.rmtree(root / "var/lib/apt/lists")
        esp = directory / "esp"
        _make_esp(esp, root)
        shutil.rmtree(root / "boot")
        (root / "boot").mkdir()
        _make_guest(directory / "agent.raw", esp, root)
        _run("chroot", root, "dpkg", "--purge", _AGENT_PACKAGE)
        _make_guest(directory / "plain.raw", esp, root)
        esp.unlink()


def _make_guest(disk: Path, esp: Path, root: Path) -> None:
    part = disk.with_suffix(".root")
    with part.open("wb") as file:
        file.truncate(_GUEST_SIZE)
    _make_ext4(part, root, "has_journal")
    _join(disk, [esp, part])
    part.unlink()


@contextlib.contextmanager
def _tree(suite: str, packages: Sequence[str], *hook: str) -> Iterator[Path]:
    """Give a system with packages, after a script of ours was run on it."""
    source = images.debian()
    codename = images.codename(suite)
    backports = []
    if suite != codename:
        backports = [f"--aptopt={recipe.preference(suite)}"]
    script, *arguments = hook
    with _scratch() as scratch:
        root = scratch / "root"
        sources = scratch / "debian.sources"
        sources.write_text(
            images.stanza(source, *dict.fromkeys([codename, suite]))
        )
        words = " ".join(["sh", str(_HERE / script), '"$1"', *arguments])
        _run(
            *("mmdebstrap", "--variant=apt", "--format=directory"),
            *images.apt_options(source),
            *backports,
            '--aptopt=APT::Install-Recommends "false"',
            "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            "--dpkgopt=force-unsafe-io",
            f"--include={','.join(sorted(set(packages)))}",
            # The machine makes images of Debian, too: it is to know a mirror.
            "--skip=cleanup/apt/lists",
            f"--customize-hook={words}",
            *(codename, root, sources),
        )
        yield root


def _take_kernel(root: Path, directory: Path) -> None:
    shutil.copy(root / "vmlinuz", directory / "vmlinuz")
    shutil.copy(root / "initrd.img", directory / "initrd")


def _make_ext4(disk: Path, root: Path, features: str) -> None:
    _run(
        *("mke2fs", "-q", "-F", "-t", "ext4", "-L", "root"),
        *("-O", features, "-E", "lazy_itable_init=1"),
        *("-d", root, disk),
    )


def _make_esp(part: Path, root: Path) -> None:
    """Make an EFI system partition with systemd-boot and the kernel."""
    with part.open("wb") as file:
        file.truncate(_ESP_SIZE)
    _run("mkfs.vfat", "-F", "32", "-n", "ESP", part)
    tree = root / "boot" / "esp"
    _run("mcopy", "-s", "-i", part, *sorted(tree.iterdir()), "::/")


def _join(disk: Path, parts: Sequence[Path]) -> None:
    """Make a disk of an EFI system partition and a root file system."""
    table, start = ["label: gpt"], _MIB
    with disk.open("wb") as file:
        file.truncate(2 * _MIB + sum(part.stat().st_size for part in parts))
    for part, kind in zip(parts, (_ESP_TYPE, _ROOT_TYPE), strict=True):
        size = part.stat().st_size
        table.append(f"start={start // 512}, size={size // 512}, type={kind}")
        start += size
    _run("sfdisk", "--quiet", disk, input="\n".join(table))
    start = _MIB
    for part in parts:
        _run(
            *("dd", f"if={part}", f"of={disk}", "bs=1M", "status=none"),
            *(f"seek={start // _MIB}", "conv=notrunc,sparse"),
        )
        start += part.stat().st_size


def _text(name: str) -> str:
    return (_HERE / name).read_text()


def _run(*argv: str | Path, input: str = "") -> str:  # noqa: A002
    """Run a program and return what it prints.

    :raises DiskError: it is not there, or fails
    """
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    try:
        done = subprocess.run(
            argv,
            input=input,
            capture_output=True,
            env={**os.environ, "PATH": path},
            check=False,
            text=True,
        )
    except FileNotFoundError:
        raise DiskError(
            f"{argv[0]} is not installed. Run: tests/bootstrap.sh vm"
        ) from None
    if done.returncode:
        last = done.stderr.splitlines()[-15:]
        raise DiskError("\n".join([f"{argv[0]} failed:", *last]))
    return done.stdout
