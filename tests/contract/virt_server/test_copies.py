# SPDX-License-Identifier: GPL-3.0-or-later
"""Files and directories on their way down and up."""

import os
from pathlib import Path

import pytest

from .conftest import Start
from .server import Server, environment

_ODD_NAMES = (
    "plain",
    "two words",
    "quo'te",
    'double"quote',
    "-dash",
    "dollar$HOME`id`",
    "back\\slash",
    "new\nline",
    "tab\tulator",
    "per%20cent",
    "ünïcode",
    "semi;colon&",
    "*",
    "x" * 200,
)


@pytest.mark.parametrize("name", _ODD_NAMES, ids=ascii)
def test_file(opened: Server, scratch: str, tmp_path: Path, name: str) -> None:
    source, back = tmp_path / name, tmp_path / f"{name} back"
    source.write_bytes(bytes(range(256)) * 100)
    opened.ask("copydown", str(source), f"{scratch}/{name}")
    opened.ask("copyup", f"{scratch}/{name}", str(back))
    assert back.read_bytes() == source.read_bytes()


def test_executable_file(opened: Server, scratch: str, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("#!/bin/sh\necho ran\n")
    (tmp_path / "run").chmod(0o755)
    opened.ask("copydown", f"{tmp_path}/run", f"{scratch}/run")
    assert opened.output(f"{scratch}/run") == "ran"


def test_empty_file_replaces(
    opened: Server, scratch: str, tmp_path: Path
) -> None:
    (tmp_path / "full").write_text("full")
    (tmp_path / "empty").touch()
    opened.ask("copydown", f"{tmp_path}/full", f"{scratch}/file")
    opened.ask("copydown", f"{tmp_path}/empty", f"{scratch}/file")
    opened.ask("copyup", f"{scratch}/file", f"{tmp_path}/full")
    assert (tmp_path / "full").read_text() == ""


def test_directory(opened: Server, scratch: str, tmp_path: Path) -> None:
    tree, back = tmp_path / "tree of files", tmp_path / "back"
    (tree / "empty").mkdir(parents=True)
    for name in _ODD_NAMES:
        (tree / name).write_text(name)
    (tree / "run").write_text("#!/bin/sh\n")
    (tree / "run").chmod(0o755)
    os.utime(tree / "run", (1, 1_000_000_000))
    (tree / "link").symlink_to("nowhere")
    (tree / "hard").hardlink_to(tree / "plain")
    opened.ask("copydown", f"{tree}/", f"{scratch}/a tree/")
    opened.ask("copyup", f"{scratch}/a tree/", f"{back}/")
    assert {path.name for path in back.iterdir()} == {
        path.name for path in tree.iterdir()
    }
    for name in _ODD_NAMES:
        assert (back / name).read_text() == name
    assert (back / "run").stat().st_mode & 0o777 == 0o755
    assert (back / "run").stat().st_mtime == 1_000_000_000
    assert (back / "link").readlink() == Path("nowhere")
    assert (back / "hard").stat().st_ino == (back / "plain").stat().st_ino


def test_directory_into_one_that_is_there(
    opened: Server, scratch: str, tmp_path: Path
) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).touch()
        opened.ask("copydown", f"{tmp_path}/{name}/", f"{scratch}/merged/")
    assert opened.output("ls", f"{scratch}/merged") == "first\nsecond"


@pytest.mark.parametrize(
    ("command", "source", "target"),
    [
        ("copydown", "/no/such/file", "{scratch}/file"),
        ("copydown", "/no/such/tree/", "{scratch}/tree/"),
        ("copydown", "/etc/passwd", "/no/such/folder/file"),
        ("copydown", "/etc/default/", "/no/such/folder/tree/"),
        ("copydown", "/etc/passwd", "/proc/version"),
        ("copydown", "/etc/passwd/", "{scratch}/tree/"),
        ("copydown", "/etc/passwd", "{scratch}/nul\0"),
        ("copydown", "/etc/" + "x" * 5000, "{scratch}/file"),
        ("copyup", "/no/such/file", "{tmp_path}/file"),
        ("copyup", "/no/such/tree/", "{tmp_path}/tree/"),
        ("copyup", "/etc/passwd", "/no/such/folder/file"),
        ("copyup", "/etc/default/", "/no/such/folder/tree/"),
        ("copyup", "/etc/passwd", "/proc/version"),
        ("copyup", "/etc/passwd", "{tmp_path}/nul\0"),
    ],
    ids=lambda value: ascii(value[:25]),
)
def test_what_can_not_be_copied(
    opened: Server,
    scratch: str,
    tmp_path: Path,
    command: str,
    source: str,
    target: str,
) -> None:
    target = target.format(scratch=scratch, tmp_path=tmp_path)
    assert opened.try_(command, source, target) == "copy-failed"
    assert opened.output("echo", "still here") == "still here"


@pytest.mark.parametrize("up", [True, False], ids=["copyup", "copydown"])
def test_copy_that_takes_too_long(
    start: Start, bookworm: str, tmp_path: Path, up: bool
) -> None:
    server = start(bookworm, env=environment(AUTOPKGTEST_VIRT_COPY_TIMEOUT="3"))
    (scratch,) = server.ask("open")
    server.execute("mkfifo", f"{scratch}/never")
    there, here = f"{scratch}/never", f"{tmp_path}/file"
    Path(here).touch()
    if up:
        assert server.try_("copyup", there, here) == "timeout"
    else:
        assert server.try_("copydown", here, there) == "timeout"
    assert server.output("echo", "still here") == "still here"
    server.ask("close")
    server.quit()
