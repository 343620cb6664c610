# SPDX-License-Identifier: GPL-3.0-or-later
"""Making directories in the guest."""

from pathlib import PurePath

import pytest
from debusine.tasks.executors.base import InstanceInterface

from .guest import Guest

_ODD_NAMES = ["a b", "-dash", "new\nline", "ü", "*", "$HOME", "'\"\\", "%41"]
_PARENTS = pytest.mark.parametrize(
    "parents", [False, True], ids=["alone", "parents"]
)


@_PARENTS
def test_mkdir(
    instance: InstanceInterface, guest: Guest, folder: PurePath, parents: bool
) -> None:
    instance.mkdir(folder / "new", parents=parents)
    assert guest.stat(folder / "new") == "root:root 755"
    assert guest.stat(folder / "new", "%F") == "directory"


@_PARENTS
@pytest.mark.parametrize(
    "there",
    ["mkdir x", "touch x", "ln -s nowhere x", "ln -s . x", "mkfifo x"],
    ids=["directory", "file", "dangling-link", "link", "fifo"],
)
def test_mkdir_of_what_is_there_already(
    instance: InstanceInterface,
    guest: Guest,
    folder: PurePath,
    there: str,
    parents: bool,
) -> None:
    guest.ask(f'cd "$1" && {there}', folder)
    before = guest.stat(folder / "x", "%F %i %a")
    with pytest.raises(FileExistsError, match=str(folder / "x")):
        instance.mkdir(folder / "x", mode=0o700, parents=parents)
    assert guest.stat(folder / "x", "%F %i %a") == before


@_PARENTS
@pytest.mark.parametrize("mode", [0o700, 0o777, 0o1777, 0o2775, 0o500], ids=oct)
def test_mkdir_mode(
    instance: InstanceInterface,
    guest: Guest,
    folder: PurePath,
    mode: int,
    parents: bool,
) -> None:
    instance.mkdir(folder / "new", "games", "games", mode, parents)
    assert guest.stat(folder / "new") == f"games:games {mode:o}"


@_PARENTS
@pytest.mark.parametrize(
    ("user", "group"),
    [("games", "root"), ("root", "games"), ("games", "adm"), ("root", "root")],
)
def test_mkdir_owner(
    instance: InstanceInterface,
    guest: Guest,
    folder: PurePath,
    user: str,
    group: str,
    parents: bool,
) -> None:
    instance.mkdir(folder / "new", user, group, parents=parents)
    assert guest.stat(folder / "new") == f"{user}:{group} 755"


def test_mkdir_for_the_non_root_user(
    instance: InstanceInterface, guest: Guest, folder: PurePath
) -> None:
    user = instance.non_root_user
    instance.create_user()
    instance.mkdir(folder / "new", user=user, group=user)
    assert guest.stat(folder / "new") == f"{user}:{user} 755"


def test_mkdir_gives_new_parents_to_the_user(
    instance: InstanceInterface, guest: Guest, folder: PurePath
) -> None:
    instance.mkdir(folder / "a/b/c", "games", "adm", parents=True)
    assert guest.stat(folder / "a").startswith("games:adm ")
    assert guest.stat(folder / "a/b").startswith("games:adm ")
    assert guest.stat(folder / "a/b/c") == "games:adm 755"


def test_mkdir_leaves_existing_parents_as_they_are(
    instance: InstanceInterface, guest: Guest, folder: PurePath
) -> None:
    guest.ask('mkdir "$1"; chown 5:4 "$1"; chmod 2750 "$1"', folder / "a")
    instance.mkdir(folder / "a/b/c", parents=True)
    assert guest.stat(folder) == "root:root 755"
    assert guest.stat(folder / "a") == "games:adm 2750"


def test_mkdir_without_a_parent(
    instance: InstanceInterface, guest: Guest, folder: PurePath
) -> None:
    with pytest.raises(FileNotFoundError, match=str(folder / "a/b")):
        instance.mkdir(folder / "a/b")
    assert guest.ask('ls -A "$1"', folder) == ""


@_PARENTS
def test_mkdir_below_a_file(
    instance: InstanceInterface, guest: Guest, folder: PurePath, parents: bool
) -> None:
    guest.write(folder / "file", "")
    with pytest.raises(NotADirectoryError, match=str(folder / "file")):
        instance.mkdir(folder / "file/new", parents=parents)


def test_mkdir_of_a_relative_path(instance: InstanceInterface) -> None:
    with pytest.raises(ValueError, match="absolute"):
        instance.mkdir(PurePath("new"))


@pytest.mark.parametrize("name", _ODD_NAMES)
def test_mkdir_name(
    instance: InstanceInterface, guest: Guest, folder: PurePath, name: str
) -> None:
    instance.mkdir(folder / name, "games", "adm")
    instance.mkdir(folder / name / name / name, "games", "adm", parents=True)
    assert guest.stat(folder / name) == "games:adm 755"
    assert guest.stat(folder / name / name / name) == "games:adm 755"


@pytest.mark.parametrize(
    ("user", "group"), [("nosuchuser", "root"), ("root", "nosuchgroup")]
)
def test_mkdir_for_an_unknown_owner(
    instance: InstanceInterface, folder: PurePath, user: str, group: str
) -> None:
    with pytest.raises(KeyError, match="nosuch"):
        instance.mkdir(folder / "new", user, group)
