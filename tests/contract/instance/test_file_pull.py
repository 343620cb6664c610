# SPDX-License-Identifier: GPL-3.0-or-later
"""Copying a file out of the guest, whatever the guest has made of it."""

import hashlib
from pathlib import Path, PurePath

import pytest
from debusine.tasks.executors.base import InstanceInterface

from .guest import Guest

_ODD_NAMES = [
    *("a b", "-dash", "-", "new\nline", "ü", "*", "$HOME", "'\"\\"),
    *("%41", "#?", "co:lon"),
]


def test_file_pull(
    instance: InstanceInterface, guest: Guest, folder: PurePath, tmp_path: Path
) -> None:
    said = guest.ask(
        'head -c 5000000 /dev/urandom >"$1"; sha256sum "$1"', folder / "file"
    )
    instance.file_pull(folder / "file", tmp_path / "file")
    data = (tmp_path / "file").read_bytes()
    assert hashlib.sha256(data).hexdigest() == said.split()[0]


def test_file_pull_of_an_empty_file(
    instance: InstanceInterface, guest: Guest, folder: PurePath, tmp_path: Path
) -> None:
    guest.write(folder / "file", "")
    instance.file_pull(folder / "file", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b""


def test_file_pull_of_a_file_that_only_root_reads(
    instance: InstanceInterface, guest: Guest, folder: PurePath, tmp_path: Path
) -> None:
    guest.ask('echo x >"$1"; chmod 0 "$1"', folder / "file")
    instance.file_pull(folder / "file", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "x\n"


def test_file_pull_replaces_a_file(
    instance: InstanceInterface, guest: Guest, folder: PurePath, tmp_path: Path
) -> None:
    guest.write(folder / "file", "short")
    (tmp_path / "file").write_text("much longer")
    instance.file_pull(folder / "file", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "short"


def test_file_pull_of_what_is_absent(
    instance: InstanceInterface, folder: PurePath, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match=str(folder / "absent")):
        instance.file_pull(folder / "absent", tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_file_pull_of_a_directory(
    instance: InstanceInterface, folder: PurePath, tmp_path: Path
) -> None:
    with pytest.raises(IsADirectoryError, match=str(folder)):
        instance.file_pull(folder, tmp_path / "file")
    assert not (tmp_path / "file").exists()


def test_file_pull_of_a_fifo_does_not_wait_for_a_writer(
    instance: InstanceInterface, guest: Guest, folder: PurePath, tmp_path: Path
) -> None:
    # A writer comes at last: who waits for one is not stuck for good.
    guest.ask(
        'mkfifo "$1" && setsid -f sh -c \'sleep 5; : <>"$1"\' sh "$1" <&- >&-',
        folder / "fifo",
    )
    with pytest.raises(OSError, match="fifo"):
        instance.file_pull(folder / "fifo", tmp_path / "file")


@pytest.mark.parametrize("target", ["/etc/hostname", "file"])
def test_file_pull_of_a_link_gives_what_the_guest_sees(
    instance: InstanceInterface,
    guest: Guest,
    folder: PurePath,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    target: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    guest.ask('cd "$1"; echo content >file; ln -s "$2" link', folder, target)
    instance.file_pull(folder / "link", tmp_path / "pulled")
    pulled = tmp_path / "pulled"
    assert not pulled.is_symlink()
    assert pulled.read_bytes() == guest.read(folder / "link")
    assert list(tmp_path.iterdir()) == [pulled]


def test_file_pull_of_a_link_to_what_only_the_host_has(
    instance: InstanceInterface,
    guest: Guest,
    folder: PurePath,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "secret"
    secret.write_text("secret")
    guest.ask('ln -s "$2" "$1"', folder / "link", secret)
    with pytest.raises(FileNotFoundError, match="link"):
        instance.file_pull(folder / "link", tmp_path / "pulled")
    assert list(tmp_path.iterdir()) == [secret]


@pytest.mark.parametrize("name", _ODD_NAMES)
def test_file_pull_of_a_name(
    instance: InstanceInterface,
    guest: Guest,
    folder: PurePath,
    tmp_path: Path,
    name: str,
) -> None:
    guest.write(folder / name, "x")
    instance.file_pull(folder / name, tmp_path / "file")
    assert (tmp_path / "file").read_text() == "x"


@pytest.mark.parametrize("name", _ODD_NAMES)
def test_file_pull_to_a_name_in_the_current_directory(
    instance: InstanceInterface,
    guest: Guest,
    folder: PurePath,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    guest.write(folder / "file", "x")
    instance.file_pull(folder / "file", Path(name))
    assert Path(name).read_text() == "x"


def test_file_pull_into_an_absent_directory(
    instance: InstanceInterface, guest: Guest, folder: PurePath, tmp_path: Path
) -> None:
    guest.write(folder / "file", "x")
    with pytest.raises(FileNotFoundError, match="absent"):
        instance.file_pull(folder / "file", tmp_path / "absent" / "file")
    assert not (tmp_path / "absent").exists()


def test_file_pull_of_a_relative_path(
    instance: InstanceInterface, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match="absolute"):
        instance.file_pull(PurePath("file"), tmp_path / "file")
