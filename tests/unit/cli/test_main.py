# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands about images and garbage: output, exit status, effects."""

import dataclasses
import json
import logging
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from incus_testbed import errors
from incus_testbed.cli import gc, place
from incus_testbed.cli import main as module
from incus_testbed.image import properties
from incus_testbed.incus.client import Incus
from incus_testbed.instance.creation import OWNER_KEY
from incus_testbed.instance.guest import Guest
from incus_testbed.instance.instance import Instance
from incus_testbed.process import signals
from tests.support import owners, tiny_system
from tests.support.fake_incus import FakeIncus
from tests.support.imported import named, unnamed

_Command = Callable[..., str]
#: The exit status of run and shell where nothing was run.
_NOT_RUN = 125


@pytest.fixture
def incus() -> FakeIncus:
    return FakeIncus.set_up()


@pytest.fixture(autouse=True)
def _process(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[None]:
    """Aim the command at the fake, and leave this process as it is."""
    for each in (gc, place):
        monkeypatch.setattr(each, "Incus", incus.aimed)
    monkeypatch.delenv("INCUS_REMOTE", raising=False)
    monkeypatch.setattr(signals, "catch", lambda *_: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    logger = logging.getLogger("incus_testbed")
    handlers, level = logger.handlers.copy(), logger.level
    yield
    logger.handlers[:] = handlers
    logger.setLevel(level)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> _Command:
    """Run a command that succeeds; give what it prints."""

    def run(*words: str) -> str:
        status = module.main(words)
        said = capsys.readouterr()
        assert (status, said.err) == (0, "")
        return said.out

    return run


@pytest.fixture
def failure(capsys: pytest.CaptureFixture[str]) -> _Command:
    """Run a command that fails; give its message."""

    def run(*words: str, status: int = 1) -> str:
        assert module.main(words) == status
        said = capsys.readouterr()
        assert said.out == ""
        return said.err

    return run


def _aliases(incus: Incus) -> list[str]:
    return sorted(alias for image in incus.images() for alias in image.aliases)


def _init(incus: Incus, image: str, name: str, owner: object) -> None:
    incus.run("init", image, name, f"--config={OWNER_KEY}={owner}")


# -- import


def test_import(incus: FakeIncus, command: _Command, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(tiny_system.tarball())
    words = ("import", str(file), "--alias=artifact/7", "--vendor=devuan")

    assert command(*words) == "artifact/7 is imported\n"

    image = incus.image("artifact/7")
    assert image.properties["artifact_id"] == "7"
    assert image.properties["os"] == "devuan"
    assert image.properties["release"] == "trixie"
    assert not properties.is_evictable(image)
    said = command(*words)
    assert said == "artifact/7 is already an image of this file\n"
    assert incus.images() == [image]


def test_quiet_import(command: _Command, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(tiny_system.tarball())

    assert command("-q", "import", str(file), "--alias=t/a") == ""
    assert "t/a" in command("-q", "images")


def test_import_of_standard_input(
    incus: FakeIncus,
    command: _Command,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    file = tmp_path / "file"
    file.write_bytes(tiny_system.tarball())
    with file.open("rb") as opened:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=opened))
        command("import", "-", "--alias=t/a")
        assert not opened.closed

    assert _aliases(incus) == ["t/a"]


def test_import_under_a_name_that_is_taken(
    incus: FakeIncus, failure: _Command, tmp_path: Path
) -> None:
    before = named(incus, "t/a")
    file = tmp_path / "file"
    file.write_bytes(b"another")

    said = failure("import", str(file), "--alias=t/a")

    assert said.startswith("incus-testbed: The alias t/a is taken")
    assert "incus-testbed remove t/a" in said
    assert incus.images() == [before]


@pytest.mark.parametrize("option", ["", "--generator="])
def test_import_of_a_file_that_is_not_there(
    failure: _Command, tmp_path: Path, option: str
) -> None:
    there, absent = tmp_path / "there", tmp_path / "absent"
    there.write_bytes(b"")
    words = [str(there), f"{option}{absent}"] if option else [str(absent)]

    said = failure("import", *words, "--alias=t/a")

    assert said == (
        f"incus-testbed: {absent} can't be read: No such file or directory\n"
    )


def test_a_generator_without_end(failure: _Command, tmp_path: Path) -> None:
    (tmp_path / "there").write_bytes(b"")
    words = [str(tmp_path / "there"), "--generator=/dev/zero", "--alias=t/a"]

    assert failure("import", *words) == (
        "incus-testbed: The generator /dev/zero has more than 1 MiB\n"
    )


# -- images


def test_images(incus: FakeIncus, command: _Command) -> None:
    image = named(incus, "t/b", unpacked=100_000_000)
    incus.create_alias("t/c", image.fingerprint)
    named(incus, "t/a")
    incus.run("init", "t/a", "user")
    named(incus, "t/foreign", ours=False)
    unnamed(incus, "t/unfinished")

    head, *rows = command("images").splitlines()

    assert re.split(r"  +", head) == [
        *("ALIAS", "TYPE", "SYSTEM", "ARCHITECTURE", "SIZE"),
        *("IMPORTED", "LAST USED"),
    ]
    first, second = (re.split(r"  +", row) for row in rows)
    assert first[0] == "t/a"
    assert second[:5] == [
        *("t/b t/c", "container", "debian trixie", image.architecture),
        f"{(image.size + 100_000_000) / 1e6:.0f} MB",
    ]
    assert second[5] == f"{image.uploaded:%Y-%m-%d %H:%M}"
    assert second[6] == "never"
    used = incus.image("t/a").last_used
    assert first[6] == f"{used:%Y-%m-%d %H:%M}"


def test_images_without_any(
    command: _Command, capsys: pytest.CaptureFixture[str]
) -> None:
    """The table is empty; a hint stands beside it, unless it is quiet."""
    assert json.loads(command("images", "--format=json")) == []
    assert command("-q", "images").split()[0] == "ALIAS"
    assert module.main(["images"]) == 0
    said = capsys.readouterr()
    assert said.out.split()[0] == "ALIAS"
    assert "incus-testbed build" in said.err


def test_quiet_setup(command: _Command) -> None:
    """It says nothing, but a dry run still says what would be done."""
    words = ("setup", "--network=other0", "--profile=other")
    assert "$ incus network create other0" in command("-q", *words, "--dry-run")
    assert command("-q", *words) == ""


def test_images_for_programs(incus: FakeIncus, command: _Command) -> None:
    image = named(incus, "t/a", unpacked=5)

    (facts,) = json.loads(command("images", "--format=json"))

    assert facts == {
        "aliases": ["t/a"],
        "fingerprint": image.fingerprint,
        "architecture": image.architecture,
        "type": "container",
        "size": image.size,
        "unpacked_size": 5,
        "uploaded": image.uploaded.isoformat(),
        "last_used": None,
        "profiles": ["debusine"],
        "properties": dict(image.properties),
    }


# -- remove


def test_remove(incus: FakeIncus, command: _Command) -> None:
    named(incus, "t/a")
    named(incus, "t/b")

    assert command("remove", "t/a") == ""

    assert _aliases(incus) == ["t/b"]


def test_remove_what_is_not_ours_or_not_there(
    incus: FakeIncus, failure: _Command
) -> None:
    named(incus, "t/foreign", ours=False)

    assert "incus image delete t/foreign" in failure("remove", "t/foreign")
    assert "There is no image t/absent" in failure("remove", "t/absent")

    assert _aliases(incus) == ["t/foreign"]


# -- gc


def test_gc(incus: FakeIncus, command: _Command) -> None:
    named(incus, "t/a")
    _init(incus, "t/a", "orphan", owners.GONE)
    _init(incus, "t/a", "mine", owners.MINE)
    image = unnamed(incus, "t/new", owner=owners.GONE)
    pieces = [
        "instance orphan: {}",
        f"unfinished image {image.fingerprint}: {{}}",
    ]

    foreseen = command("gc", "--dry-run").splitlines()

    assert foreseen == [piece.format("would be removed") for piece in pieces]
    assert len(incus.instances()) == 2
    assert len(incus.images()) == 2
    done = command("gc").splitlines()
    assert done == [piece.format("removed") for piece in pieces]
    assert [record.name for record in incus.instances()] == ["mine"]
    assert _aliases(incus) == ["t/a"]
    assert len(incus.images()) == 1
    assert command("gc") == ""
    assert command("gc", "--format=json") == "[]\n"


def test_gc_keeps_images_within_bounds(
    incus: FakeIncus, command: _Command
) -> None:
    for name in "abc":
        named(incus, f"tarball/{name}", unpacked=2000)
    named(incus, "tarball/hand", evictable=False)
    size = incus.image("tarball/c").size

    foreseen = command("gc", "--keep=1", "--dry-run", "--format=json")

    assert len(incus.images()) == 4
    assert json.loads(foreseen) == [
        {"project": None, "kind": "image", "name": name}
        for name in ("tarball/a", "tarball/b")
    ]
    assert command("gc", "--keep=1", "--format=json") == foreseen
    assert _aliases(incus) == ["tarball/c", "tarball/hand"]
    assert command("gc", f"--max-size={size + 2000}") == ""
    assert command("gc", f"--max-size={size + 1999}") == (
        "image tarball/c: removed\n"
    )
    assert command("gc", "--keep=0", "--max-size=1GiB") == ""
    assert _aliases(incus) == ["tarball/hand"]


def test_gc_in_one_project_or_in_all(
    incus: FakeIncus, command: _Command
) -> None:
    incus.run("project", "create", "beside")
    beside = incus.aimed(project="beside")
    for client in (incus, beside):
        if client is beside:
            for profile in ("debusine", "debusine-vm"):
                client.run("profile", "create", profile)
            device = ("debusine", "root", "disk", "pool=pool", "path=/")
            client.run("profile", "device", "add", *device)
        named(client, "t/a")
        _init(client, "t/a", "orphan", owners.GONE)

    found = command("gc", "--all-projects", "--dry-run", "--format=json")
    assert sorted(piece["project"] for piece in json.loads(found)) == [
        *("beside", "default"),
    ]
    assert command("--project=beside", "gc") == "instance orphan: removed\n"
    assert not beside.instances()
    assert incus.instances()
    assert command("gc", "--all-projects") == "instance orphan: removed\n"
    assert not incus.instances()


def test_gc_of_a_host_that_is_given_up(
    incus: FakeIncus, command: _Command, failure: _Command
) -> None:
    named(incus, "t/a")
    other = dataclasses.replace(
        owners.ON_ANOTHER_MACHINE, host="0" * 8 + "1" * 24
    )
    alone = dataclasses.replace(other, host="2" * 32)
    for owner in (owners.ON_ANOTHER_MACHINE, other, alone):
        _init(incus, "t/a", f"of-{owner.host[:9]}", owner)
    mine = owners.MINE.host_id

    assert command("gc") == ""
    assert command("gc", "--dry-run").splitlines() == [
        *["host 00000000 owns 1 instance: stays"] * 2,
        "host 22222222 owns 1 instance: stays",
    ]
    said = failure("gc", "--host=33333333")
    assert "There is nothing here of a host 33333333" in said
    assert {"00000000", "22222222", mine} <= {*said.split()}
    said = failure("gc", "--host=00000000")
    assert "more than one host" in said
    assert other.host in said

    words = ("gc", "--host=22222222", "--all-projects")
    foreseen = command(*words, "--dry-run").splitlines()
    assert foreseen[0] == "instance of-222222222: would be removed"
    assert len(foreseen) == 3
    assert command(*words) == "instance of-222222222: removed\n"
    assert command("gc", f"--host={other.host}") == (
        "instance of-000000001: removed\n"
    )
    assert [each.name for each in incus.instances()] == ["of-000000000"]


def test_gc_of_this_very_host_spares_what_runs(
    incus: FakeIncus, command: _Command
) -> None:
    incus.become_cluster()
    named(incus, "t/a")
    _init(incus, "t/a", "alive", owners.MINE)
    _init(incus, "t/a", "before", owners.REBOOTED)
    mine = owners.MINE.host_id

    assert command("gc") == ""
    assert command("gc", "--dry-run") == (
        f"host {mine} (this one, before its last boot) owns 1 instance: stays\n"
    )
    assert command("gc", f"--host={mine}") == "instance before: removed\n"
    assert [each.name for each in incus.instances()] == ["alive"]


@pytest.mark.parametrize("word", ["", "0" * 7, "0" * 33, "machine!", "A" * 8])
def test_gc_of_what_is_no_host(word: str) -> None:
    with pytest.raises(SystemExit) as caught:
        module.main(["gc", f"--host={word}"])

    assert caught.value.code == 2


def test_gc_that_fails(
    incus: FakeIncus, failure: _Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(incus, "t/a")
    _init(incus, "t/a", "orphan", owners.GONE)

    def refuse(name: str) -> None:
        raise errors.Denied(f"{name} is not yours", resolution="Ask an admin.")

    monkeypatch.setattr(incus, "delete", refuse)

    said = failure("gc").splitlines()

    assert "incus-testbed: orphan is not yours" in said
    assert said[-1] == "  Ask an admin."


@pytest.mark.parametrize("option", ["--keep=-1", "--keep=x", "--max-size=big"])
def test_gc_with_bounds_that_are_none(option: str) -> None:
    with pytest.raises(SystemExit) as caught:
        module.main(["gc", option])

    assert caught.value.code == 2


# -- run and shell


@pytest.mark.parametrize(
    "words", [["run", "t/absent", "--", "true"], ["shell", "t/absent"]]
)
def test_a_command_that_can_not_be_run(
    failure: _Command, words: list[str]
) -> None:
    said = failure(*words, status=_NOT_RUN)

    assert "t/absent" in said
    assert "'incus-testbed images' lists" in said


def test_no_command(incus: FakeIncus, failure: _Command) -> None:
    named(incus, "t/a")

    for words in (["t/a"], ["t/a", "--"]):
        assert "There is no command to run" in failure(
            "run", *words, status=_NOT_RUN
        )
    assert incus.image("t/a").last_used is None


class _Guest:
    """What a test says of a guest that does not run."""

    def __init__(self, boots: bool) -> None:
        self.boots = boots

    def wait_ready(self, *_: object) -> None:
        if not self.boots:
            raise errors.BootFailed("it did not boot")

    @staticmethod
    def exec(*_: object, **__: object) -> SimpleNamespace:
        return SimpleNamespace(returncode=7)


@pytest.mark.parametrize(("boots", "status"), [(True, 7), (False, _NOT_RUN)])
def test_kept_instance(
    incus: FakeIncus,
    command: _Command,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    boots: bool,
    status: int,
) -> None:
    named(incus, "t/a")
    guest = _Guest(boots)
    monkeypatch.setattr(Instance, "wait_ready", guest.wait_ready)
    monkeypatch.setattr(Guest, "exec", guest.exec)

    assert module.main(["run", "--keep", "t/a", "--", "true"]) == status

    (record,) = incus.instances()
    assert OWNER_KEY not in record.config
    assert not record.ephemeral
    said = capsys.readouterr().err
    assert f"incus exec {record.name} -- su -" in said
    assert f"incus delete --force {record.name}" in said
    assert command("gc") == ""
    assert incus.instances() == [record]
    assert "none: kept" in command("status")


def test_instance_is_removed_unless_it_is_kept(
    incus: FakeIncus, failure: _Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    named(incus, "t/a")
    monkeypatch.setattr(Instance, "wait_ready", _Guest(False).wait_ready)

    assert "it did not boot" in failure("run", "t/a", "true", status=_NOT_RUN)
    assert incus.instances() == []
