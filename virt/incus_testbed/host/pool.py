# SPDX-License-Identifier: GPL-3.0-or-later
"""The storage pool of images and testbeds."""

import os
import shutil
from collections.abc import Collection
from pathlib import Path

from incus_testbed import process
from incus_testbed.client import Incus
from incus_testbed.host.requirement import Finding, State, good

#: Drivers that clone an image at no cost, the one to make first.
_MADE = ("btrfs", "zfs")
_CLONING = (*_MADE, "ceph", "lvm", "lvmcluster", "linstor", "truenas")

_GIB = 1 << 30
#: GiB of a pool in a file: the file takes up only what is in use.
_SMALLEST, _LARGEST = 5, 200


def check(incus: Incus, name: str, *, local: bool) -> Finding:
    """Look for the pool; have the fastest made where it is absent.

    ``local`` tells whether the server is this machine.
    """
    environment = incus.server()["environment"]
    supported = {
        driver["Name"] for driver in environment["storage_supported_drivers"]
    }
    best = _best(name, supported, local=local)
    for pool in incus.pools():
        if pool["name"] == name:
            return _of_present(pool["driver"], pool["status"], best[0])
    if best[0] != "dir" and local and _free() < _SMALLEST:
        return Finding(
            state=State.FAILED,
            detail=f"it does not exist, and only {_free()} GiB are free for it",
            advice=f"Free {_SMALLEST} GiB in {_state_directory()}, or give it"
            f" a disk: incus storage create {name} {best[0]} source=/dev/DISK",
        )
    words = ("storage", "create", incus.target(name), *best)
    return Finding(state=State.FAILED, detail="it does not exist", fix=(words,))


def size(free: int) -> int:
    """Return the GiB to give a pool where ``free`` GiB are free."""
    return max(_SMALLEST, min(free // 2, _LARGEST))


def _best(
    name: str, supported: Collection[str], *, local: bool
) -> tuple[str, ...]:
    """Return driver and settings of the fastest pool that can be made."""
    if not local:
        return (next(filter(supported.__contains__, _MADE), "dir"),)
    if "btrfs" in supported:
        if _has_loop_devices():
            return ("btrfs", f"size={size(_free())}GiB")
        if _is_on_btrfs(_state_directory()):
            source = _state_directory() / "storage-pools" / name
            return ("btrfs", f"source={source}")
    if "zfs" in supported:
        return ("zfs", f"size={size(_free())}GiB")
    return ("dir",)


def _has_loop_devices() -> bool:
    """Tell whether a file can be mounted: in a container it can't."""
    return Path("/dev/loop-control").exists()


def _is_on_btrfs(directory: Path) -> bool:
    argv = ["stat", "--file-system", "--format=%T", str(directory)]
    return process.run(argv, timeout=10).stdout.strip() == b"btrfs"


def _free() -> int:
    """Return the GiB that are free for Incus."""
    return shutil.disk_usage(_state_directory()).free // _GIB


def _state_directory() -> Path:
    """Return where Incus keeps its files, or the nearest that there is."""
    directory = Path(os.environ.get("INCUS_DIR") or "/var/lib/incus")
    while not directory.exists():
        directory = directory.parent
    return directory


def _of_present(driver: str, status: str, best: str) -> Finding:
    if status != "Created":
        return Finding(
            state=State.FAILED,
            detail=f"its state is {status}",
            advice="See why: journalctl --unit incus",
        )
    if driver in _CLONING:
        return good(driver)
    advice = (
        "apt install btrfs-progs && systemctl restart incus; then"
        " 'incus-testbed doctor' goes on from there"
        if best == "dir"
        else f"Use a {best} pool: incus-testbed setup --pool testbeds"
    )
    return Finding(
        state=State.WARNING,
        detail=f"{driver}: every launch unpacks the whole image",
        advice=advice,
    )
