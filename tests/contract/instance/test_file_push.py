# SPDX-License-Identifier: GPL-3.0-or-later
"""Copying a file into the guest."""

import hashlib
import os
from pathlib import Path, PurePath

import pytest
from debusine.tasks.executors.base import InstanceInterface

from .guest import Guest

_ODD_NAMES = [
    *("a b", "-dash", "-", "new\nline", "ü", "*", "$HOME", "'\"\\"),
    *("%41", "#?", "co:lon"),
]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    file = tmp_path / "source"
    file.write_bytes(bytes(range(256)) * 1000)
    return file


def test_file_push(
    instance: InstanceInterface, guest: Guest, folder: PurePath, source: Path
) -> None:
    instance.file_push(source, folder / "file")
    assert guest.read(folder / "file") == source.read_bytes()
    assert guest.stat(folder / "file") == "root:root 644"


@pytest.mark.parametrize(
    "mode", [0o600, 0o755, 0o444, 0o4755, 0o2755, 0o666], ids=oct
)
def test_file_push_mode(
    instance: InstanceInterface,
    guest: Guest,
    folder: PurePath,
    source: Path,
    mode: int,
) -> None:
    instance.file_push(source, folder / "file", mode=mode)
    assert guest.stat(folder / "file") == f"root:root {mode:o}"


@pytest.mark.parametrize(
    ("user", "group"), [("games", "root"), ("root", "adm"), ("games", "adm")]
)
def test_file_push_owner(
    instance: InstanceInterface,
    guest: Guest,
    folder: PurePath,
    source: Path,
    user: str,
    group: str,
) -> None:
    instance.file_push(source, folder / "file", user, group, 0o640)
    assert guest.stat(folder / "file") == f"{user}:{group} 640"


def test_file_push_of_an_empty_file(
    instance: InstanceInterface, guest: Guest, folder: PurePath, tmp_path: Path
) -> None:
    (tmp_path / "empty").touch()
    instance.file_push(tmp_path / "empty", folder / "file")
    assert guest.stat(folder / "file", "%s") == "0"


def test_file_push_of_50_mb(
    instance: InstanceInterface, guest: Guest, folder: PurePath, tmp_path: Path
) -> None:
    data = os.urandom(50_000_000)
    (tmp_path / "big").write_bytes(data)
    instance.file_push(tmp_path / "big", folder / "file")
    said = guest.ask('sha256sum "$1"', folder / "file").split()[0]
    assert said == hashlib.sha256(data).hexdigest()
    guest.ask('rm "$1"', folder / "file")


def test_file_push_replaces_a_file(
    instance: InstanceInterface, guest: Guest, folder: PurePath, tmp_path: Path
) -> None:
    guest.ask('echo much longer >"$1"; chown 5:4 "$1"', folder / "file")
    (tmp_path / "new").write_text("short")
    instance.file_push(tmp_path / "new", folder / "file", mode=0o600)
    assert guest.read(folder / "file") == b"short"
    assert guest.stat(folder / "file") == "root:root 600"


@pytest.mark.parametrize("name", _ODD_NAMES)
def test_file_push_to_a_name(
    instance: InstanceInterface,
    guest: Guest,
    folder: PurePath,
    source: Path,
    name: str,
) -> None:
    instance.file_push(source, folder / name)
    assert guest.stat(folder / name, "%s") == str(source.stat().st_size)


@pytest.mark.parametrize("name", _ODD_NAMES)
def test_file_push_from_a_name_in_the_current_directory(
    instance: InstanceInterface,
    guest: Guest,
    folder: PurePath,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("x")
    instance.file_push(Path(name), folder / "file")
    assert guest.read(folder / "file") == b"x"


def test_file_push_to_a_relative_path(
    instance: InstanceInterface, source: Path
) -> None:
    with pytest.raises(ValueError, match="absolute"):
        instance.file_push(source, PurePath("file"))


def test_file_push_of_what_is_absent(
    instance: InstanceInterface, folder: PurePath, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        instance.file_push(tmp_path / "absent", folder / "file")


def test_file_push_into_an_absent_directory(
    instance: InstanceInterface, guest: Guest, folder: PurePath, source: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        instance.file_push(source, folder / "absent" / "file")
    assert guest.ask('ls -A "$1"', folder) == ""


@pytest.mark.parametrize(
    ("user", "group"), [("nosuchuser", "root"), ("root", "nosuchgroup")]
)
def test_file_push_for_an_unknown_owner(
    instance: InstanceInterface,
    folder: PurePath,
    source: Path,
    user: str,
    group: str,
) -> None:
    with pytest.raises(KeyError, match="nosuch"):
        instance.file_push(source, folder / "file", user, group)
