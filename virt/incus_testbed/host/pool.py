# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the storage pool of images and testbeds."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from incus_testbed import errors
from incus_testbed.host.requirement import Finding, failed, good, warning
from incus_testbed.image import properties
from incus_testbed.incus.client import Incus
from incus_testbed.process import programs

#: Drivers that setup may use, the best first; and all drivers that clone an
#: image at no cost.  Those of setup can limit a disk without reserving it.
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
    supported = _supported(incus)
    for pool in incus.pools():
        if pool["name"] == name:
            if pool["status"] == "Created" and (few := short(incus, name)):
                return few
            return _of_present(pool["driver"], pool["status"], supported)
    made = _new(name, supported, local=local)
    if made.in_file and (free := _free_space()) < _SMALLEST:
        return failed(
            f"it does not exist, and only {free} GiB are free for it",
            advice=f"Free {_SMALLEST} GiB in {_state_directory()}, or give it a"
            f" disk: incus storage create {name} {made.driver}"
            " source=/dev/DISK",
        )
    words = ("incus", "storage", "create", incus.target(name))
    return failed(
        "it does not exist", fix=((*words, made.driver, *made.settings),)
    )


def share(incus: Incus, name: str, *, local: bool) -> int | None:
    """Return how many bytes of the pool one testbed may take: half of them.

    If there is no such pool, it is the one that the fix of check() makes.  None
    if its driver can't limit a disk, or if nobody knows the pool's size.
    """
    for pool in incus.pools():
        if pool["name"] == name:
            driver, total = pool["driver"], _total(incus, name)
            break
    else:
        made = _new(name, _supported(incus), local=local)
        driver, total = made.driver, made.size
    return total // 2 if total and driver in _MADE else None


def _total(incus: Incus, name: str) -> int | None:
    try:
        space = incus.pool_space(name)
    except errors.CommandFailed:  # a cluster: each member has its own
        return None
    return space[0] if space else None


@dataclass(frozen=True, kw_only=True)
class _New:
    """A pool to make; ``size`` is in bytes, None if it is not known."""

    driver: str
    settings: tuple[str, ...] = ()
    size: int | None = None
    in_file: bool = False


def _new(name: str, supported: set[str], *, local: bool) -> _New:
    """Return the fastest pool that can be made."""
    driver = next((made for made in _MADE if made in supported), "dir")
    if driver == "dir" or not local:
        return _New(driver=driver)
    state = _state_directory()
    if driver == "btrfs" and _file_system(state) == "btrfs":
        return _New(
            driver=driver,
            settings=(f"source={state}/storage-pools/{name}",),
            size=shutil.disk_usage(state).total,
        )
    if not _LOOP_CONTROL.exists():
        return _New(driver="dir")
    gigabytes = size(_free_space())
    return _New(
        driver=driver,
        settings=(f"size={gigabytes}GiB",),
        size=gigabytes * _GIB,
        in_file=True,
    )


def _supported(incus: Incus) -> set[str]:
    """Return the drivers that the server supports."""
    environment = incus.server()["environment"]
    return {
        driver["Name"] for driver in environment["storage_supported_drivers"]
    }


def _free_space() -> int:
    """Return how many GiB are free where Incus keeps its files."""
    return shutil.disk_usage(_state_directory()).free // _GIB


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
