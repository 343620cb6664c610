# SPDX-License-Identifier: GPL-3.0-or-later
"""What is found of a pool's quotas, on kernels and machines of all kinds."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from incus_testbed import errors
from incus_testbed.host import pool, quotas
from incus_testbed.host.requirement import Finding, State
from incus_testbed.process import programs
from tests.support.fake_incus import FakeIncus

_FULL, _SIMPLE = "qgroup", "squota"


class _Machine:
    """A machine with a pool of btrfs, as its kernel shows it."""

    def __init__(self, folder: Path) -> None:
        self.state = folder / "with blank"
        self.place = self.state / "storage-pools/default"
        self.place.mkdir(parents=True)
        self.incus = FakeIncus()
        self.incus.run("storage", "create", "default", "btrfs")
        self.kernel = quotas.Kernel(
            mounts=folder / "mountinfo", btrfs=folder / "btrfs"
        )
        (self.kernel.btrfs / "features").mkdir(parents=True)
        (self.kernel.btrfs / "features/simple_quota").touch()
        self.system = self.kernel.btrfs / "1234"
        (self.system / "devices/loop7").mkdir(parents=True)
        (self.kernel.btrfs / "5678/devices/sda1").mkdir(parents=True)
        self.mount()

    def mount(self, root: str = "/", kind: str = "btrfs") -> None:
        """Have a file system, or a part of it, mounted; empty: none there."""
        place = str(self.place).replace(" ", r"\040")
        there = (
            f"88 30 0:55 {root} {place} rw,relatime shared:9 master:1"
            f" - {kind} /dev/loop7 rw,space_cache=v2\n"
        )
        self.kernel.mounts.write_text(
            "24 30 0:22 / /sys rw,nosuid shared:7 - sysfs sysfs rw\n"
            "30 1 0:26 /@ / rw shared:1 - btrfs /dev/sda1 rw,ssd\n"
            f"{there if root else ''}"
        )

    def have(self, mode: str | None) -> None:
        """Have quotas; None is what older kernels say of their mode."""
        (self.system / "qgroups").mkdir()
        if mode is not None:
            (self.system / "qgroups/mode").write_text(f"{mode}\n")

    def use(self, *urls: str) -> None:
        """Have something use the pool."""
        self.incus.objects["storage"]["default"]["used_by"] = [*urls]

    def check(self) -> Finding:
        """Return the finding."""
        return quotas.check(self.incus, "default", self.kernel)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Machine:
    """Give one on which this process is root and btrfs-progs are new."""
    made = _Machine(tmp_path)
    monkeypatch.setenv("INCUS_DIR", str(made.state))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    _help(monkeypatch, b"-s|--simple  simple qgroups")
    return made


def _help(monkeypatch: pytest.MonkeyPatch, text: bytes | None) -> None:
    """Have the btrfs command print so; None: it is not there."""

    def run(argv: Sequence[str], *, timeout: float) -> programs.Completed:
        assert argv[0] == "btrfs"
        assert timeout
        if text is None:
            raise errors.MissingProgram("btrfs is not installed")
        return programs.Completed(
            argv=tuple(argv), status=0, stdout=text, stderr=""
        )

    monkeypatch.setattr(programs, "run", run)


def _enable(machine: _Machine) -> tuple[str, ...]:
    return ("btrfs", "quota", "enable", "--simple", str(machine.place))


def _disable(machine: _Machine) -> tuple[str, ...]:
    return ("btrfs", "quota", "disable", str(machine.place))


def test_simple_ones_are_right(machine: _Machine) -> None:
    machine.have(_SIMPLE)
    machine.use("/1.0/instances/other")
    assert machine.check().state is State.GOOD


def test_a_pool_without_quotas_gets_simple_ones(machine: _Machine) -> None:
    machine.use("/1.0/instances/other")
    found = machine.check()
    assert found.state is State.FAILED
    assert found.fix == (_enable(machine),)


def test_full_ones_are_changed_where_nothing_is_limited(
    machine: _Machine,
) -> None:
    machine.have(_FULL)
    machine.use("/1.0/images/123?project=p", "/1.0/profiles/debusine")
    assert machine.check().fix == (_disable(machine), _enable(machine))


@pytest.mark.parametrize(
    "url",
    [
        "/1.0/instances/other?project=p",
        "/1.0/storage-pools/default/volumes/custom/data",
        "/1.0/storage-pools/default/buckets/data",
    ],
)
def test_full_ones_stay_where_something_is_limited(
    machine: _Machine, url: str
) -> None:
    machine.have(_FULL)
    machine.use("/1.0/profiles/debusine", url)
    found = machine.check()
    assert (found.state, found.fix) == (State.NOTE, ())
    assert "quota disable" in found.advice


@pytest.mark.parametrize("root", ["/@var/incus/storage-pools/default", ""])
def test_a_file_system_of_the_machine_is_not_changed(
    machine: _Machine, root: str
) -> None:
    machine.mount(root=root)
    found = machine.check()
    assert (found.state, found.fix) == (State.NOTE, ())
    assert "before 6.7" in found.advice


def test_others_than_root_get_the_command(
    machine: _Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    found = machine.check()
    assert (found.state, found.fix) == (State.NOTE, ())
    assert "quota enable --simple" in found.advice


def test_an_older_kernel(machine: _Machine) -> None:
    (machine.kernel.btrfs / "features/simple_quota").unlink()
    machine.have(None)
    found = machine.check()
    assert (found.state, found.fix) == (State.NOTE, ())
    assert "6.7" in found.advice


@pytest.mark.parametrize("text", [b"quota enable <path>", None])
def test_an_older_program(
    machine: _Machine, monkeypatch: pytest.MonkeyPatch, text: bytes | None
) -> None:
    _help(monkeypatch, text)
    found = machine.check()
    assert (found.state, found.fix) == (State.NOTE, ())
    assert "6.7" in found.advice


def test_mounts_that_are_not_seen(machine: _Machine) -> None:
    machine.mount(kind="ext4")
    assert machine.check().state is State.UNKNOWN
    machine.kernel.mounts.write_text("")
    assert machine.check().state is State.UNKNOWN


def test_a_device_that_the_kernel_does_not_show(machine: _Machine) -> None:
    (machine.system / "devices/loop7").rmdir()
    assert machine.check().state is State.UNKNOWN


def test_another_driver_has_its_own(machine: _Machine) -> None:
    machine.incus.run("storage", "create", "other", "zfs")
    found = quotas.check(machine.incus, "other", machine.kernel)
    assert (found.state, found.detail) == (State.GOOD, "those of zfs")


def test_dir_has_none(machine: _Machine) -> None:
    machine.incus.run("storage", "create", "other", "dir")
    found = quotas.check(machine.incus, "other", machine.kernel)
    assert (found.state, found.advice) == (State.NOTE, "")


def _of_none(machine: _Machine, monkeypatch: pytest.MonkeyPatch) -> Finding:
    """Return what is found where a pool called new is to be made."""
    loops = machine.state / "loop-control"
    loops.touch()
    monkeypatch.setattr(pool, "_LOOP_CONTROL", loops)
    monkeypatch.setattr(pool, "_file_system", lambda _: "ext2/ext3")
    return quotas.check(machine.incus, "new", machine.kernel)


def test_a_pool_that_is_to_be_made(
    machine: _Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = _of_none(machine, monkeypatch)
    assert found.state is State.FAILED
    place = machine.place.with_name("new")
    assert found.fix == (("btrfs", "quota", "enable", "--simple", str(place)),)


def test_a_pool_that_is_to_be_made_where_it_is_not_seen(
    machine: _Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine.mount(root="")
    assert _of_none(machine, monkeypatch).state is State.UNKNOWN
