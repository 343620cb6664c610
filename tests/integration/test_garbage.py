# SPDX-License-Identifier: GPL-3.0-or-later
"""What garbage collection may take for garbage, wherever that is."""

import dataclasses
import io
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from incus_testbed import errors
from incus_testbed.cleanup import garbage, inventory
from incus_testbed.host import doctor
from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus
from incus_testbed.instance import naming
from incus_testbed.instance.creation import OWNER_KEY
from incus_testbed.instance.instance import Instance
from incus_testbed.ownership import claim
from incus_testbed.ownership.claim import Kind
from incus_testbed.ownership.owner import Owner
from tests.support import tiny_system
from tests.support.sandbox import Sandbox

from .conftest import Cli

_IMAGE = "tiny/collect"

_REBOOTED = dataclasses.replace(Owner.current(), boot="an-earlier-boot")
_REUSED = dataclasses.replace(Owner.current(), started=1)
_ELSEWHERE = dataclasses.replace(_REBOOTED, host="0" * 32)
_ANOTHER_CONTAINERS = dataclasses.replace(_REUSED, pid_namespace=1)


@pytest.fixture(scope="module", autouse=True)
def image(incus: Incus) -> Iterator[None]:
    Store(incus).add(io.BytesIO(tiny_system.tarball()), _IMAGE)
    yield
    incus.run("image", "delete", _IMAGE)


@pytest.fixture
def owned(incus: Incus) -> Iterator[Callable[[str], str]]:
    """Make an instance that says whose it is; give its name."""
    made: list[str] = []

    def make(owner: str) -> str:
        name = f"collect-{len(made)}"
        made.append(name)
        incus.run("init", _IMAGE, name, f"--config={OWNER_KEY}={owner}")
        return name

    yield make
    for name in made:
        Instance(incus, name).delete()


def _names(incus: Incus) -> set[str]:
    return {record.name for record in incus.instances()}


@pytest.mark.parametrize(
    "owner",
    [_REBOOTED, _REUSED],
    ids=["boot", "pid"],
)
def test_what_nobody_can_own_any_more_goes(
    cli: Cli, incus: Incus, owned: Callable[[str], str], owner: object
) -> None:
    name = owned(str(owner))
    assert cli.output("gc") == f"instance {name}: removed\n"
    assert name not in _names(incus)


@pytest.mark.parametrize(
    "owner",
    [Owner.current(), _ELSEWHERE, _ANOTHER_CONTAINERS, "somebody", ""],
    ids=["alive", "machine", "container", "text", "none"],
)
def test_what_somebody_may_own_stays(
    cli: Cli, incus: Incus, owned: Callable[[str], str], owner: object
) -> None:
    name = owned(str(owner))
    assert cli.output("gc") == ""
    assert name in _names(incus)


def test_beside_many_names_tell_what_to_read(
    incus: Incus, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit in ("_FEW_IMAGES", "_FEW_INSTANCES", "_ALONE"):
        monkeypatch.setattr(inventory, limit, 0)
    with monkeypatch.context() as patch:
        patch.setattr(Owner, "current", lambda: _REUSED)
        name = naming.make_up()
        left = claim.stake(incus, incus.image(_IMAGE).fingerprint, Kind.USE)
    incus.run("init", _IMAGE, name, f"--config={OWNER_KEY}={_REUSED}")
    with monkeypatch.context() as patch:
        for lists in ("images", "instances"):
            patch.setattr(incus, lists, None)

        found = garbage.collect(incus)

    assert {*found.pieces()} == {("instance", name), ("claim", left)}
    assert name not in _names(incus)
    assert left not in incus.alias_names()


@pytest.fixture
def project(incus: Incus, incus_environment: Sandbox) -> Iterator[str]:
    """Make a project with the image and a profile."""
    name = f"{os.environ['INCUS_PROJECT']}-2"
    incus.run("project", "create", name)
    there = Incus(project=name)
    for _ in doctor.setup(there, incus_environment.names):
        pass
    Store(there).add(io.BytesIO(tiny_system.tarball()), _IMAGE)
    yield name
    incus.run("project", "delete", name, "--force", stdin=b"yes\n")


def test_project(cli: Cli, incus: Incus, project: str) -> None:
    there = Incus(project=project)
    here = "collect-here"
    for each in (incus, there):
        each.run("init", _IMAGE, here, f"--config={OWNER_KEY}={_REBOOTED}")
    assert here in cli.output(f"--project={project}", "gc")
    assert not _names(there)
    assert here in _names(incus)
    assert here in cli.output("gc")


def test_remote(
    cli: Cli, incus: Incus, owned: Callable[[str], str], tmp_path: Path
) -> None:
    name = owned(str(_REBOOTED))
    socket = f"{os.environ.get('INCUS_DIR', '/var/lib/incus')}/unix.socket"
    (tmp_path / "config.yml").write_text(
        "default-remote: nowhere\n"
        "remotes:\n"
        f"  far: {{addr: 'unix://{socket}'}}\n"
        "  nowhere: {addr: 'unix:///nonexistent'}\n"
    )
    aimed = Cli({**cli.environment, "INCUS_CONF": str(tmp_path)})
    assert aimed.run("gc").returncode == 1
    assert name in _names(incus)
    assert aimed.output("--remote=far", "gc") == f"instance {name}: removed\n"


def test_collections_at_once(
    cli: Cli, incus: Incus, owned: Callable[[str], str]
) -> None:
    names = {owned(str(_REBOOTED)) for _ in range(8)}
    mine = owned(str(Owner.current()))
    running = [
        cli.start("gc", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(4)
    ]
    for each in running:
        _, said = each.communicate(timeout=120)
        assert each.returncode == 0, said
    assert not names & _names(incus)
    assert mine in _names(incus)


@pytest.mark.parametrize("shift", ["-400d", "+400d"])
def test_clock_that_jumps(
    cli: Cli, incus: Incus, owned: Callable[[str], str], shift: str
) -> None:
    """Live owners are told from dead ones by what no clock can change."""
    mine, orphan = owned(str(Owner.current())), owned(str(_REUSED))
    done = subprocess.run(
        [
            *("faketime", "-m", "-f", shift),
            *(sys.executable, "-m", "incus_testbed", "gc"),
        ],
        env={**cli.environment, "FAKETIME_DONT_FAKE_MONOTONIC": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == f"instance {orphan}: removed\n", done.stderr
    assert mine in _names(incus)


def test_image_of_a_killed_import_goes(
    cli: Cli, incus: Incus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise errors.DaemonDown("Incus went away")

    before = {each.fingerprint for each in incus.images()}
    with monkeypatch.context() as patch:
        patch.setattr(Owner, "current", lambda: _REUSED)
        patch.setattr(Incus, "create_alias", fail)
        patch.setattr(Incus, "delete_image", fail)
        with pytest.raises(errors.DaemonDown):
            Store(incus).add(io.BytesIO(tiny_system.tarball("x")), "tiny/x")
    assert {each.fingerprint for each in incus.images()} > before
    assert "unfinished image" in cli.output("gc")
    assert {each.fingerprint for each in incus.images()} == before
