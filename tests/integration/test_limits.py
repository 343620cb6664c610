# SPDX-License-Identifier: GPL-3.0-or-later
"""A testbed that takes all it can get; its neighbour and the host go on.

The Incus of the other tests may have no controllers for memory and processes:
systemd guests do not boot beside them in a machine's older layout of cgroups.
This one has those of the machine, and guests without systemd.
"""

import json
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from incus_testbed.host import doctor
from incus_testbed.incus.client import Incus
from incus_testbed.instance import removal
from tests.support import daemon, tiny_guest

_PROFILE = "debusine"
_CGROUPS = Path("/sys/fs/cgroup")
#: What a guest may take here: less than setup's values, to be quick.
_MEMORY, _PROCESSES, _DISK = 200 << 20, 200, 100 << 20

#: What each attack does; none can go on for ever.
_ATTACKS = {
    "processes": "while :; do sleep 60 & done",
    "memory": "x=aaaaaaaaaaaaaaaa; while :; do x=$x$x; done",
    "disk": "x=aaaaaaaaaaaaaaaa; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15"
    " 16; do x=$x$x; done; while echo $x; do :; done >/fill",
}


@pytest.fixture(scope="module")
def incus(own_daemon: daemon.Daemon) -> Incus:
    """Give an Incus that has the machine's controllers, set up."""
    del own_daemon
    client = Incus()
    for _ in doctor.setup(client):
        pass
    return client


@pytest.fixture(scope="module")
def image(incus: Incus) -> str:
    """Give an image; the profile of its guests has small limits."""
    incus.run(
        *("profile", "set", _PROFILE, f"limits.memory={_MEMORY}"),
        f"limits.processes={_PROCESSES}",
    )
    device = ("profile", "device", "set", _PROFILE, "root")
    incus.run(*device, f"size={_DISK}")
    with tempfile.TemporaryDirectory() as folder:
        made = incus.import_image(*tiny_guest.write(Path(folder)))
    incus.set_image_profiles(incus.image(made), [_PROFILE])
    return made


@pytest.fixture
def attacker(incus: Incus, image: str) -> Iterator[str]:
    """Give a guest for one attack; it may not survive that."""
    yield from _guest(incus, image, "attacker")


@pytest.fixture(scope="module")
def neighbour(incus: Incus, image: str) -> Iterator[str]:
    """Give a guest that is there all the time."""
    yield from _guest(incus, image, "neighbour")


def _guest(incus: Incus, image: str, name: str) -> Iterator[str]:
    incus.launch(image, name, config={}, ephemeral=False)
    yield name
    removal.delete(incus, name)  # it may be stopping by itself just now


def _used(incus: Incus, name: str, attack: str) -> int:
    """Return what a guest uses, or the most that it has used."""
    if attack == "disk":
        state = json.loads(incus.run("query", f"/1.0/instances/{name}/state"))
        used: int = state["disk"]["root"]["usage"]
        return used
    # Asked of Incus, it would be one more process in the guest.
    files = {
        "processes": ("pids.current",),
        "memory": ("memory.peak", "memory.max_usage_in_bytes"),
    }[attack]
    found = [
        path
        for file in files
        for path in _CGROUPS.glob(f"**/lxc.payload.{name}/{file}")
    ]
    return int(found[0].read_text()) if found else 0  # it has stopped


@pytest.mark.parametrize("attack", _ATTACKS)
def test_only_the_attacker_fails(
    incus: Incus, attacker: str, neighbour: str, attack: str
) -> None:
    most = {"processes": _PROCESSES, "memory": _MEMORY, "disk": _DISK}[attack]
    command = ["/bin/sh", "-c", _ATTACKS[attack]]
    seen = 0
    with ThreadPoolExecutor() as threads:
        attacking = threads.submit(
            incus.execute, attacker, command, timeout=120
        )
        while not attacking.done():
            seen = max(seen, _used(incus, attacker, attack))
            began = time.monotonic()
            done = incus.execute(
                neighbour, ["/bin/sh", "-c", "echo $((6 * 7)) >/n"], timeout=30
            )
            assert done.status == 0, done.stderr
            assert time.monotonic() - began < 10
    result = attacking.result()
    seen = max(seen, _used(incus, attacker, attack))
    assert result.status != 0 or result.stderr, "it has found no limit"
    assert most / 2 < seen <= most * 1.05


def test_guests_have_no_ids_in_common(
    incus: Incus, attacker: str, neighbour: str
) -> None:
    ranges = []
    show = "read -r line </proc/self/uid_map; echo $line"
    for name in (attacker, neighbour):
        said = incus.execute(
            name, ["/bin/sh", "-c", show], timeout=30
        ).stdout.split()
        first, count = int(said[1]), int(said[2])
        # Enough for users in the guest to have ranges of their own.
        assert count >= 100_000 + 2 * 65536
        ranges.append(range(first, first + count))
    lower, upper = sorted(ranges, key=lambda ids: ids.start)
    assert lower.stop <= upper.start


def test_doctor_finds_the_limits_in_effect(incus: Incus) -> None:
    (limits,) = (
        report.finding
        for report in doctor.doctor(incus)
        if report.requirement == "limits"
    )
    assert limits.state is doctor.State.GOOD
