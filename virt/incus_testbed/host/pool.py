# SPDX-License-Identifier: GPL-3.0-or-later
"""The storage pool of images and testbeds."""

import os
import shutil
from pathlib import Path

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
    driver = next((made for made in _MADE if made in supported), "dir")
    for pool in incus.pools():
        if pool["name"] == name:
            return _of_present(pool["driver"], pool["status"], driver)
    words = ("storage", "create", incus.target(name), driver)
    if driver == "dir" or not local:
        return _absent((*words,))
    free = shutil.disk_usage(_state_directory()).free // _GIB
    if free < _SMALLEST:
        return Finding(
            state=State.FAILED,
            detail=f"it does not exist, and only {free} GiB are free for it",
            advice=f"Free {_SMALLEST} GiB in {_state_directory()}, or give it"
            f" a disk: incus storage create {name} {driver} source=/dev/DISK",
        )
    return _absent((*words, f"size={size(free)}GiB"))


def size(free: int) -> int:
    """Return the GiB to give a pool where ``free`` GiB are free."""
    return max(_SMALLEST, min(free // 2, _LARGEST))


def _state_directory() -> Path:
    """Return where Incus keeps its files, or the nearest that there is."""
    directory = Path(os.environ.get("INCUS_DIR") or "/var/lib/incus")
    while not directory.exists():
        directory = directory.parent
    return directory


def _absent(words: tuple[str, ...]) -> Finding:
    return Finding(state=State.FAILED, detail="it does not exist", fix=(words,))


def _of_present(driver: str, status: str, better: str) -> Finding:
    if status != "Created":
        return Finding(
            state=State.FAILED,
            detail=f"its state is {status}",
            advice="See why: journalctl --unit incus",
        )
    if driver in _CLONING:
        return good(driver)
    if better == "dir":
        return Finding(
            state=State.WARNING,
            detail=f"{driver}: every launch unpacks the whole image",
            advice="apt install btrfs-progs && systemctl restart incus; then"
            " 'incus-testbed doctor' goes on from there",
        )
    return Finding(
        state=State.WARNING,
        detail=f"{driver}: every launch unpacks the whole image",
        advice=f"Use a {better} pool: incus-testbed setup --pool testbeds",
    )
