# SPDX-License-Identifier: GPL-3.0-or-later
"""Find out what must be known of the system on a disk to start it."""

import re
import stat
from collections.abc import Iterator

from incus_testbed import errors
from incus_testbed.image.disk import content, efi, ext4
from incus_testbed.image.disk.ext4 import Ext4, Inode
from incus_testbed.image.disk.fat import Fat
from incus_testbed.image.disk.partitions import Partition, partitions
from incus_testbed.image.disk.reader import Reader
from incus_testbed.limits.budget import Budget
from incus_testbed.system.disk import BootLoader, DiskSystem
from incus_testbed.system.entry import Entry
from incus_testbed.system.facts import Facts
from incus_testbed.system.survey import ALL_UNITS, Survey

_ROOT_HAS = {"etc", "usr", "var"}
_AGENTS = {"incus-agent.service", "lxd-agent.service"}
_MODULES = ("lib/modules", "usr/lib/modules")


def survey(disk: Reader, budget: Budget) -> DiskSystem:
    """Describe the system on a disk.

    :raises errors.BadImage: it does not boot by EFI, is damaged, or would need
        more reads than any real disk
    """
    parts = partitions(disk.read, disk.size)
    loader = _boot_loader(disk, parts)
    for part in parts:
        if ext4.is_ext4(disk.read, part):
            root = Ext4(disk.read, part)
            if root.names("").keys() >= _ROOT_HAS:
                return _described(disk.size, loader, root, budget)
    names = [
        content.file_system(disk.read, part) for part in parts if not part.esp
    ]
    return DiskSystem(
        size=disk.size,
        boot_loader=loader,
        file_system=next(filter(None, names), "unknown"),
    )


def _boot_loader(disk: Reader, parts: list[Partition]) -> BootLoader:
    for part in parts:
        if part.esp:
            return efi.boot_loader(Fat(disk.read, part))
    raise errors.BadImage(
        "The disk has no EFI system partition",
        details="Incus' virtual machines boot by EFI, not by a BIOS.",
        resolution="Make the image with a boot loader for EFI.",
    )


def _described(
    size: int, loader: BootLoader, root: Ext4, budget: Budget
) -> DiskSystem:
    seen = Survey(budget)
    for entry in _entries(root, seen, budget.name_bytes):
        seen.visit(entry)
    facts = seen.facts()
    return DiskSystem(
        size=size,
        boot_loader=loader,
        facts=facts,
        agent=any(_AGENTS & root.names(path).keys() for path in ALL_UNITS),
        has_9p=_has_9p(root),
        network=_configures_network(facts, root),
    )


def _entries(root: Ext4, seen: Survey, longest: int) -> Iterator[Entry]:
    """Yield the files that the survey needs."""
    folders = [""]
    while folders:
        folder = folders.pop()
        for name, number in root.names(folder).items():
            path = f"{folder}/{name}".lstrip("/")
            if not seen.watches(path) and not seen.wants_content(path):
                continue
            inode = root.inode(number)
            wanted = seen.wants_content(path)
            if wanted and stat.S_ISREG(inode.mode):
                seen.check_size(path, inode.size)
            yield _entry(root, path, inode, wanted, longest)
            if stat.S_ISDIR(inode.mode):
                folders.append(path)


def _entry(
    root: Ext4, path: str, inode: Inode, wanted: bool, longest: int
) -> Entry:
    mode = inode.mode & 0o7777
    if stat.S_ISDIR(inode.mode):
        return Entry(path=path, kind="directory", mode=mode)
    if stat.S_ISLNK(inode.mode):
        target = root.content(inode, longest).decode(errors="surrogateescape")
        return Entry(path=path, kind="symlink", mode=mode, target=target)
    if not stat.S_ISREG(inode.mode):
        return Entry(path=path, kind="other", mode=mode)
    content = root.content(inode, inode.size) if wanted else None
    return Entry(path=path, kind="file", mode=mode, content=content)


def _has_9p(root: Ext4) -> bool:
    return all(
        "9p" in root.names("kernel/fs", below=kernel)
        for folder in _MODULES
        for kernel in root.names(folder).values()
    )


def _configures_network(facts: Facts, root: Ext4) -> bool:
    """Tell whether the system configures a NIC, which udev has named.

    Then it is not told to use systemd-networkd: a NIC would have two owners.
    """
    if facts.network_manager.enabled or facts.dhcpcd.enabled:
        return True
    if facts.ifupdown and any(
        word.startswith(("en", "eth"))
        for line in facts.interfaces.splitlines()
        if (words := line.split()) and re.match("auto$|allow-", words[0])
        for word in words[1:]
    ):
        return True
    return facts.networkd.enabled and any(
        name.endswith(".network") for name in root.names("etc/systemd/network")
    )
