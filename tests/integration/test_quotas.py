# SPDX-License-Identifier: GPL-3.0-or-later
"""The quotas of a btrfs pool: setup sees to it that they are simple ones.

An Incus of its own has the pools, and what is run here is run where that has
mounted them, as it is on a machine on which systemd starts Incus.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from incus_testbed.incus.client import Incus
from incus_testbed.instance import removal
from tests.support import daemon, inside, tiny_guest

_MIB = 1 << 20
#: The size of a guest's disk here; small, to be filled soon.
_SIZE = 64 * _MIB
_FILL = (
    "x=aaaaaaaaaaaaaaaa; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16;"
    " do x=$x$x; done; while echo $x; do :; done >/fill"
)


@dataclass(frozen=True)
class _Machine:
    """The machine as incusd sees it."""

    daemon: daemon.Daemon

    def place(self, pool: str) -> str:
        """Return where a pool is mounted."""
        state = self.daemon.environment["INCUS_DIR"]
        return f"{state}/storage-pools/{pool}"

    def run(self, *words: str, check: bool = True) -> str:
        """Run a command; return what it prints."""
        done = subprocess.run(
            inside.command(*words),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout + done.stderr

    def testbed(self, *words: str, check: bool = True) -> str:
        """Run incus-testbed; return what it prints."""
        words = (sys.executable, "-m", "incus_testbed", *words)
        return self.run(*words, check=check)

    def found(self, pool: str) -> str:
        """Return what doctor says of the quotas, with its advice."""
        said = self.testbed("doctor", f"--pool={pool}", check=False)
        return "\n".join(
            part
            for part in said.split("\n\n")
            if part.startswith("disk quotas:")
        ) + "".join(
            line for line in said.splitlines() if " disk quotas " in line
        )

    def are_simple(self, pool: str) -> bool:
        """Tell whether a pool has simple quotas."""
        (source,) = self.run(
            *("findmnt", "--noheadings", "--output=SOURCE"),
            self.place(pool),
        ).split()
        (device,) = Path("/sys/fs/btrfs").glob(f"*/devices/{Path(source).name}")
        mode = device.parents[1] / "qgroups/mode"
        return mode.exists() and mode.read_text() == "squota\n"


@pytest.fixture(scope="module")
def machine(own_daemon: daemon.Daemon) -> _Machine:
    """Give a machine with an Incus that nothing has been set up for."""
    return _Machine(own_daemon)


@pytest.fixture(scope="module")
def image(machine: _Machine) -> str:
    """Give an image."""
    machine.testbed("setup")
    with tempfile.TemporaryDirectory() as folder:
        made = Incus().import_image(*tiny_guest.write(Path(folder)))
    Incus().set_image_profiles(Incus().image(made), ["debusine"])
    return made


@pytest.fixture
def used_before(machine: _Machine) -> Iterator[str]:
    """Give a pool whose quotas are full ones, as Incus enables them."""
    name = "before"
    Incus().run("storage", "create", name, "btrfs", "size=1GiB")
    machine.run("btrfs", "quota", "enable", machine.place(name))
    assert not machine.are_simple(name)
    yield name
    Incus().run("storage", "delete", name)


def _launch(image: str, name: str, pool: str) -> None:
    Incus().launch(
        image,
        name,
        config={},
        ephemeral=False,
        devices={
            "root": {
                "type": "disk",
                "path": "/",
                "pool": pool,
                "size": str(_SIZE),
            }
        },
    )


def _fill(name: str) -> tuple[int, str]:
    """Fill the disk of a guest; return what it takes, and what it said."""
    said = Incus().execute(name, ["/bin/sh", "-c", _FILL], timeout=120).stderr
    state = Incus().run("query", f"/1.0/instances/{name}/state")
    return json.loads(state)["disk"]["root"]["usage"], said


@pytest.mark.usefixtures("image")
def test_a_new_pool_has_simple_ones(machine: _Machine) -> None:
    assert "Nothing is missing" in machine.testbed("setup")
    assert machine.are_simple("default")
    assert "simple" in machine.found("default")


def test_a_disk_is_as_large_as_its_size(machine: _Machine, image: str) -> None:
    names = ["one", "other"]
    for name in names:
        _launch(image, name, "default")

    used, said = _fill("one")
    assert said
    assert _SIZE / 2 < used <= _SIZE * 1.05
    there = ["/bin/sh", "-c", "echo there >/there"]
    assert Incus().execute("other", there, timeout=60).status == 0

    for name in names:
        removal.delete(Incus(), name)
    assert machine.are_simple("default")


def test_a_pool_without_instances_gets_simple_ones(
    machine: _Machine, image: str, used_before: str
) -> None:
    _launch(image, "ended", used_before)
    removal.delete(Incus(), "ended")
    place = machine.place(used_before)
    assert f"btrfs quota disable {place}" in machine.found(used_before)

    machine.testbed("setup", f"--pool={used_before}")

    assert machine.are_simple(used_before)
    _launch(image, "later", used_before)
    assert _fill("later")[0] <= _SIZE * 1.05
    removal.delete(Incus(), "later")
    machine.testbed("setup", "--pool=default")


def test_an_instance_keeps_its_limit(
    machine: _Machine, image: str, used_before: str
) -> None:
    _launch(image, "there", used_before)

    machine.testbed("setup", f"--pool={used_before}")

    assert not machine.are_simple(used_before)
    assert "lose the limit" in machine.found(used_before)
    assert _fill("there")[0] <= _SIZE * 1.05
    removal.delete(Incus(), "there")
    machine.testbed("setup", "--pool=default")
