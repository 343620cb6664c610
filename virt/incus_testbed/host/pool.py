# SPDX-License-Identifier: GPL-3.0-or-later
"""Check the storage pool of images and testbeds."""

import dataclasses
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from incus_testbed import errors
from incus_testbed.host import cluster, subvolumes
from incus_testbed.host.requirement import Finding, failed, good, warning
from incus_testbed.image import properties
from incus_testbed.incus.client import Incus
from incus_testbed.incus.location import USER_PROJECT
from incus_testbed.process import programs

#: Drivers that setup may use, the best first; and all drivers that clone an
#: image at no cost.  Those of setup can limit a disk without reserving it.
_MADE = ("btrfs", "zfs")
_CLONING = (*_MADE, "ceph", "lvm", "lvmcluster", "linstor", "truenas")

#: Most containers lack this, and then they can't have a pool in a file.
_LOOP_CONTROL = Path("/dev/loop-control")

#: The pool that doctor suggests beside one that copies.
_FASTER = "testbeds"

_GIB = 1 << 30
#: Smallest and largest size, in GiB, of a pool in a file; the file takes only
#: the space that is in use.
_SMALLEST, _LARGEST = 5, 200
#: States of a pool that not all members of a cluster have made.
_UNFINISHED = ("Pending", "Errored")
#: Bytes that an image and an instance of it may need.
_ROOM = 2 * _GIB


def check(incus: Incus, name: str, *, local: bool) -> Finding:
    """Check the pool; the fix makes the fastest kind if there is none.

    ``local`` tells whether the server is this machine.
    """
    for pool in incus.pools():
        if pool["name"] != name:
            continue
        if pool["status"] in _UNFINISHED and incus.members():
            return _creation(
                incus,
                name,
                _like(pool, local=local),
                present=pool["locations"],
            )
        if pool["status"] == "Created" and (few := short(incus, name)):
            return few
        return _of_present(incus, pool, local=local)
    made = new(incus, name, local=local)
    if _lacks_space(made):
        return failed(
            f"it does not exist, and only {_free_space()} GiB are free for it",
            advice=f"Free {_SMALLEST} GiB in {_present_directory()}, or give it"
            f" a disk: incus storage create {name} {made.driver}"
            " source=/dev/DISK",
        )
    return _creation(incus, name, made)


def _creation(
    incus: Incus, name: str, made: "New", present: Sequence[str] = ()
) -> Finding:
    """Return a finding whose fix makes a pool, or what it lacks."""
    here = cluster.name_of(incus)
    found = cluster.creation(
        incus,
        ("incus", "storage", "create", incus.target(name), made.driver),
        on=lambda member: made.settings_on(is_here=member == here),
        present=present,
    )
    if not here or not found.fix:
        return found
    # What is in the other machines can't be seen.
    return dataclasses.replace(
        found,
        advice="If a member can't make it in its own way, say how: incus"
        f" storage delete {incus.target(name)}; incus storage create"
        f" {incus.target(name)} DRIVER source=... --target MEMBER, for each"
        " member; then incus-testbed setup",
    )


def driver_of(incus: Incus, name: str, *, local: bool) -> str:
    """Return the driver of the pool, or of the one that is to be made."""
    for pool in incus.pools():
        if pool["name"] == name:
            return str(pool["driver"])
    return new(incus, name, local=local).driver


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
        made = new(incus, name, local=local)
        driver, total = made.driver, made.size
    return total // 2 if total and driver in _MADE else None


def _total(incus: Incus, name: str) -> int | None:
    """Return how many bytes the pool has on each member at least."""
    try:
        spaces = _spaces(incus, name)
    except errors.CommandFailed:
        return None  # it is not in use now
    return min((total for total, _ in spaces.values()), default=None)


def _spaces(incus: Incus, name: str) -> dict[str, tuple[int, int]]:
    """Return the size and the free bytes of the pool on each member."""
    spaces = cluster.ask(
        incus, lambda member: incus.pool_space(name, member=member)
    )
    return {member: space for member, space in spaces.items() if space}


def new(incus: Incus, name: str, *, local: bool) -> "New":
    """Return the fastest pool that can be made."""
    return _new(name, _supported(incus), local=local)


@dataclass(frozen=True, kw_only=True)
class New:
    """A pool to make; ``size`` is in bytes, None if it is not known."""

    driver: str
    settings: tuple[str, ...] = ()
    size: int | None = None
    in_file: bool = False

    def settings_on(self, *, is_here: bool) -> tuple[str, ...]:
        """Return the settings on this machine, or on another of its cluster.

        A file's size depends on the disk it is on: elsewhere Incus chooses it.
        """
        return self.settings if is_here or not self.in_file else ()


def _new(name: str, supported: set[str], *, local: bool) -> New:
    driver = _best(supported)
    if driver == "dir" or not local:
        return New(driver=driver)
    state = _present_directory()
    if driver == "btrfs" and _file_system(state) == "btrfs":
        if not subvolumes.can_be_made(state):
            return New(driver="dir")
        return New(
            driver=driver,
            settings=(f"source={state}/storage-pools/{name}",),
            size=shutil.disk_usage(state).total,
        )
    if not _LOOP_CONTROL.exists():
        return New(driver="dir")
    gigabytes = size(_free_space())
    return New(
        driver=driver,
        settings=(f"size={gigabytes}GiB",),
        size=gigabytes * _GIB,
        in_file=True,
    )


def _like(pool: Mapping[str, Any], *, local: bool) -> New:
    """Return what a pool that is not complete has to become."""
    made = _new(pool["name"], {pool["driver"]}, local=local)
    return made if made.driver == pool["driver"] else New(driver=pool["driver"])


def _supported(incus: Incus) -> set[str]:
    """Return the drivers that the server, and each of its members, supports."""

    def there(member: str) -> set[str]:
        environment = incus.server(member=member)["environment"]
        drivers = environment["storage_supported_drivers"]
        return {driver["Name"] for driver in drivers}

    return set.intersection(*cluster.ask(incus, there).values())


def _best(supported: set[str]) -> str:
    """Return the driver that setup prefers, of those that are supported."""
    return next((made for made in _MADE if made in supported), "dir")


def _lacks_space(made: New) -> bool:
    """Tell whether a pool in a file would be too small."""
    return made.in_file and _free_space() < _SMALLEST


def _free_space() -> int:
    """Return how many GiB are free where Incus keeps its files."""
    return shutil.disk_usage(_present_directory()).free // _GIB


def size(free: int) -> int:
    """Return the GiB to give a pool where ``free`` GiB are free."""
    return max(_SMALLEST, min(free // 2, _LARGEST))


def state_directory() -> Path:
    """Return the directory where an Incus of this machine keeps its files."""
    return Path(os.environ.get("INCUS_DIR") or "/var/lib/incus")


def _present_directory() -> Path:
    """Return that directory, or its nearest existing parent."""
    directory = state_directory()
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
        spaces = _spaces(incus, name)
    except (errors.CommandFailed, errors.Restricted):
        return None  # not ours to know
    frees = {member: free for member, (_, free) in spaces.items()}
    member = min(frees, key=frees.__getitem__, default="")
    if not frees or (free := frees[member]) >= _ROOM:
        return None
    where = f" on {member}" if member else ""
    taken = sum(map(properties.disk_use, incus.images()))
    return warning(
        f"only {free / _GIB:.1f} GiB are free in it{where}; the images take"
        f" up to {taken / _GIB:.1f} GiB",
        advice="'incus-testbed images' lists the images, 'incus-testbed gc'"
        " removes everything that has no owner",
    )


def _of_present(
    incus: Incus, pool: Mapping[str, Any], *, local: bool
) -> Finding:
    driver, status = pool["driver"], pool["status"]
    if status != "Created":
        return failed(
            f"its state is {status}",
            advice="See why: journalctl --unit incus",
        )
    if driver in _CLONING:
        return good(driver)
    return warning(
        f"{driver}: each launch unpacks the whole image",
        advice="\n".join(_ways_to_clone(incus, local=local)),
    )


def _ways_to_clone(incus: Incus, *, local: bool) -> Iterator[str]:
    """Yield what an admin does for testbeds to be in a pool that clones."""
    name = next(
        (
            pool["name"]
            for pool in incus.pools()
            if pool["driver"] in _CLONING and pool["status"] == "Created"
        ),
        "",
    )
    if not name:
        name, supported = _FASTER, _supported(incus)
        driver = _best(supported)
        if driver == "dir":
            yield (
                "apt install btrfs-progs && systemctl restart incus; then run"
                " 'incus-testbed doctor' again for the next step"
            )
            return
        made = _new(name, supported, local=local)
        if made.driver == "dir" or _lacks_space(made):
            yield f"incus storage create {name} {driver} source=/dev/DISK"
    yield f"incus-testbed setup --pool {name}"
    if any(project.startswith(USER_PROJECT) for project in incus.projects()):
        yield (
            "For each user with a restricted project, and Debusine's worker may"
            f" be one: incus-testbed setup --restricted USER --pool {name}"
        )
