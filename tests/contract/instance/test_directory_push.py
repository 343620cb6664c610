# SPDX-License-Identifier: GPL-3.0-or-later
"""Copying a directory, with all that is in it, into the guest."""

import hashlib
import os
import stat
from pathlib import Path, PurePath

import pytest
from debusine.tasks.executors.base import InstanceInterface

from .guest import Guest

_ODD_NAMES = [
    *("a b", "-dash", "new\nline", "ü", "*", "$HOME", "'\"\\", "%41", "#?"),
    "co:lon",
]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return an empty directory on the host."""
    made = tmp_path / "tree"
    made.mkdir(mode=0o755)
    return made


def _described(tree: Path, owner: str) -> set[str]:
    """Return a line for each path: mode, owner and name, or the target."""
    lines = set()
    for path in [tree, *tree.rglob("*")]:
        name = path.relative_to(tree.parent)
        if path.is_symlink():
            lines.add(f"link {owner} {name} {path.readlink()}")
        else:
            mode = path.stat().st_mode
            kind = "directory" if stat.S_ISDIR(mode) else "file"
            lines.add(f"{kind} {stat.S_IMODE(mode):o} {owner} {name}")
    return lines


def _found(guest: Guest, folder: PurePath) -> set[str]:
    """Return the same of what has come into a directory of the guest."""
    said = guest.ask(
        r"""cd "$1" && find . -mindepth 1 \
            -type l -printf 'link %u:%g %P %l\0' -o \
            -type d -printf 'directory %m %u:%g %P\0' -o \
            -printf 'file %m %u:%g %P\0'""",
        folder,
    )
    return set(said.split("\0")) - {""}


def _content(tree: Path) -> str:
    """Return a digest of all files' contents in the order of their names."""
    files = (path for path in tree.rglob("*") if path.is_file())
    digest = hashlib.sha256()
    for path in sorted(files, key=os.fsencode):
        digest.update(path.read_bytes())
    return digest.hexdigest()


def _guest_content(guest: Guest, tree: PurePath) -> str:
    script = """cd "$1" && find . -type f -print0 | LC_ALL=C sort -z |
        xargs -0 cat | sha256sum"""
    return guest.ask(script, tree).split()[0]


def test_directory_push(
    instance: InstanceInterface, guest: Guest, folder: PurePath, tree: Path
) -> None:
    (tree / "sub/sub").mkdir(parents=True)
    (tree / "empty").mkdir()
    (tree / "file").write_bytes(bytes(range(256)))
    (tree / "sub/sub/file").write_text("deep")
    (tree / ".hidden").write_text("hidden")
    (tree / "sub/nothing").touch()
    instance.directory_push(tree, folder)
    assert _found(guest, folder) == _described(tree, "root:root")
    assert _guest_content(guest, folder / "tree") == _content(tree)


def test_directory_push_of_3000_files(
    instance: InstanceInterface, guest: Guest, folder: PurePath, tree: Path
) -> None:
    for number in range(3000):
        parent = tree / f"{number % 50:02}"
        parent.mkdir(exist_ok=True)
        (parent / f"{number:04}").write_text(f"{number}\n")
    instance.directory_push(tree, folder, "games", "adm")
    assert _found(guest, folder) == _described(tree, "games:adm")
    assert _guest_content(guest, folder / "tree") == _content(tree)


@pytest.mark.parametrize("mode", [0o755, 0o600, 0o444, 0o4755, 0o666], ids=oct)
def test_directory_push_keeps_a_files_mode(
    instance: InstanceInterface,
    guest: Guest,
    folder: PurePath,
    tree: Path,
    mode: int,
) -> None:
    (tree / "file").touch()
    (tree / "file").chmod(mode)
    instance.directory_push(tree, folder, "games", "adm")
    assert _found(guest, folder) == _described(tree, "games:adm")


@pytest.mark.parametrize("mode", [0o700, 0o555, 0o777, 0o2755], ids=oct)
@pytest.mark.parametrize("which", [".", "sub"])
def test_directory_push_keeps_a_directorys_mode(
    instance: InstanceInterface,
    guest: Guest,
    folder: PurePath,
    tree: Path,
    which: str,
    mode: int,
) -> None:
    (tree / "sub").mkdir(mode=0o755)
    (tree / "sub" / "file").touch()
    (tree / which).chmod(mode)
    instance.directory_push(tree, folder, "games", "adm")
    assert _found(guest, folder) == _described(tree, "games:adm")


@pytest.mark.parametrize(
    ("user", "group"), [("games", "root"), ("root", "adm"), ("games", "adm")]
)
def test_directory_push_owner(
    instance: InstanceInterface,
    guest: Guest,
    folder: PurePath,
    tree: Path,
    user: str,
    group: str,
) -> None:
    (tree / "sub").mkdir()
    (tree / "sub" / "file").touch()
    instance.directory_push(tree, folder, user, group)
    assert _found(guest, folder) == _described(tree, f"{user}:{group}")


@pytest.mark.parametrize(
    "target",
    ["file", "sub", "nowhere", "/etc/passwd", "..", "sub/../file", "link"],
)
def test_directory_push_keeps_a_link_a_link(
    instance: InstanceInterface,
    guest: Guest,
    folder: PurePath,
    tree: Path,
    target: str,
) -> None:
    (tree / "sub").mkdir()
    (tree / "file").touch()
    (tree / "link").symlink_to(target)
    instance.directory_push(tree, folder, "games", "adm")
    assert _found(guest, folder) == _described(tree, "games:adm")


def test_directory_push_touches_nothing_that_links_point_to(
    instance: InstanceInterface, guest: Guest, folder: PurePath, tree: Path
) -> None:
    guest.ask('touch "$1"; chmod 600 "$1"', folder / "victim")
    (tree / "link").symlink_to(folder / "victim")
    instance.directory_push(tree, folder, "games", "adm")
    assert guest.stat(folder / "victim") == "root:root 600"
    assert guest.read(folder / "victim") == b""


def test_directory_push_leaves_its_neighbours_alone(
    instance: InstanceInterface, guest: Guest, folder: PurePath, tree: Path
) -> None:
    guest.ask('touch "$1"; chmod 600 "$1"', folder / "neighbour")
    instance.directory_push(tree, folder, "games", "adm")
    assert guest.stat(folder / "neighbour") == "root:root 600"
    assert guest.stat(folder) == "root:root 755"


@pytest.mark.parametrize("name", _ODD_NAMES)
def test_directory_push_of_a_name(
    instance: InstanceInterface,
    guest: Guest,
    folder: PurePath,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    tree = tmp_path / name
    (tree / name).mkdir(parents=True)
    (tree / name / name).write_text("x")
    instance.directory_push(Path(name), folder, "games", "adm")
    assert _found(guest, folder) == _described(tree, "games:adm")


def test_directory_push_into_an_odd_directory(
    instance: InstanceInterface, guest: Guest, folder: PurePath, tree: Path
) -> None:
    target = folder / "- a\n%41#"
    guest.ask('mkdir "$1"', target)
    (tree / "file").touch()
    instance.directory_push(tree, target, "games", "adm")
    assert _found(guest, target) == _described(tree, "games:adm")


def test_directory_push_of_what_is_absent(
    instance: InstanceInterface, folder: PurePath, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        instance.directory_push(tmp_path / "absent", folder)


def test_directory_push_into_an_absent_directory(
    instance: InstanceInterface, guest: Guest, folder: PurePath, tree: Path
) -> None:
    with pytest.raises(FileNotFoundError, match="absent"):
        instance.directory_push(tree, folder / "absent")
    assert guest.ask('ls -A "$1"', folder) == ""


def test_directory_push_to_a_relative_path(
    instance: InstanceInterface, tree: Path
) -> None:
    with pytest.raises(ValueError, match="absolute"):
        instance.directory_push(tree, PurePath("srv"))
