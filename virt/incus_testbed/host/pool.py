# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the storage pool of images and testbeds."""

import os
import shutil
from pathlib import Path

from incus_testbed import errors
from incus_testbed.host.requirement import Finding, failed, good, warning
from incus_testbed.image import properties
from incus_testbed.incus.client import Incus
from incus_testbed.process import programs

#: Drivers that setup may use, the best first; and all drivers that clone an
#: image at no cost.
_MADE = ("btrfs", "zfs")
_CLONING = (*_MADE, "ceph", "lvm", "lvmcluster", "linstor", "truenas")

#: Most containers lack this, and then they can't have a pool in a file.
_LOOP_CONTROL = Path("/dev/loop-control")

_GIB = 1 << 30
#: Smallest and largest size, in GiB, of a pool in a file; the file takes only
#: the space that is in use.
_SMALLEST, _LARGEST = 5, 200
#: Bytes that an image and an instance of it may need.
_ROOM = 2 * _GIB


def check(incus: Incus, name: str, *, local: bool) -> Finding:
    """Check the pool; the fix makes the fastest kind if there is none.

    ``local`` tells whether the server is this machine.
    """
    environment = incus.server()["environment"]
    supported = {
        driver["Name"] for driver in environment["storage_supported_drivers"]
    }
    for pool in incus.pools():
        if pool["name"] == name:
            if pool["status"] == "Created" and (few := short(incus, name)):
                return few
            return _of_present(pool["driver"], pool["status"], supported)
    driver = next((made for made in _MADE if made in supported), "dir")
    if driver != "dir" and local:
        return _cloning_here(incus, name, driver)
    return _absent(incus, name, driver)


def _cloning_here(incus: Incus, name: str, driver: str) -> Finding:
    """Return the finding that no pool exists, with the fix that makes one."""
    state = _state_directory()
    if driver == "btrfs" and _file_system(state) == "btrfs":
        return _absent(
            incus, name, driver, f"source={state}/storage-pools/{name}"
        )
    if not _LOOP_CONTROL.exists():
        return _absent(incus, name, "dir")
    free = shutil.disk_usage(state).free // _GIB
    if free < _SMALLEST:
        return failed(
            f"it does not exist, and only {free} GiB are free for it",
            advice=f"Free {_SMALLEST} GiB in {state}, or give it a disk:"
            f" incus storage create {name} {driver} source=/dev/DISK",
        )
    return _absent(incus, name, driver, f"size={size(free)}GiB")


def size(free: int) -> int:
    """Return the GiB to give a pool where ``free`` GiB are free."""
    return max(_SMALLEST, min(free // 2, _LARGEST))


def _state_directory() -> Path:
    """Return Incus's state directory, or its nearest existing parent."""
    directory = Path(os.environ.get("INCUS_DIR") or "/var/lib/incus")
    while not directory.exists():
        directory = directory.parent
    return directory


def _file_system(directory: Path) -> str:
    """Return the type of a directory's file system."""
    return (
        programs.run(
            ["stat", "--file-system", "--format=%T", str(directory)],
            timeout=10,
        )
        .stdout.decode()
        .strip()
    )


def _absent(incus: Incus, name: str, *words: str) -> Finding:
    return failed(
        "it does not exist",
        fix=(("incus", "storage", "create", incus.target(name), *words),),
    )


def short(incus: Incus, name: str) -> Finding | None:
    """Return a warning if the pool is almost full, otherwise None."""
    try:
        space = incus.pool_space(name)
    except (errors.CommandFailed, errors.Restricted):
        # A cluster, where each member has its own; or not ours to know.
        return None
    if space is None or (free := space[1]) >= _ROOM:
        return None
    taken = sum(map(properties.disk_use, incus.images()))
    return warning(
        f"only {free / _GIB:.1f} GiB are free in it; the images take"
        f" up to {taken / _GIB:.1f} GiB",
        advice="'incus-testbed images' lists the images, 'incus-testbed gc'"
        " removes everything that has no owner",
    )


def _of_present(driver: str, status: str, supported: set[str]) -> Finding:
    if status != "Created":
        return failed(
            f"its state is {status}",
            advice="See why: journalctl --unit incus",
        )
    if driver in _CLONING:
        return good(driver)
    if supported.isdisjoint(_MADE):
        advice = (
            "apt install btrfs-progs && systemctl restart incus; then run"
            " 'incus-testbed doctor' again for the next step"
        )
    else:
        better = next(made for made in _MADE if made in supported)
        advice = (
            f"Make one that clones: incus storage create testbeds {better}"
            " [source=/dev/DISK]; then incus-testbed setup --pool testbeds"
        )
    return warning(
        f"{driver}: each launch unpacks the whole image",
        advice=advice,
    )
