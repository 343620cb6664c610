# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages whose tests mean harm, with the real autopkgtest."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import Start
from .runs import PACKAGES, Run, autopkgtest
from .server import Server, environment

_PRIVATE = "what only the worker may read\n"


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Return a folder of the host, which guests have no business with."""
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "secret").write_text(_PRIVATE)
    return folder


@pytest.fixture
def run(bookworm: str, victim: Path, tmp_path: Path, nothing_left: None) -> Run:
    """Return a run of the hostile package's tests."""
    del nothing_left
    return autopkgtest(
        *(tmp_path / "output", bookworm, f"--env=VICTIM={victim}"),
        *(f"--env=SECRET={victim}/secret", "--no-built-binaries"),
        PACKAGES / "hostile",
    )


def _all_below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in [*folders, *files])


def test_nothing_of_the_host_is_written_or_given_away(
    run: Run, victim: Path
) -> None:
    summary = (run.output / "summary").read_text()
    assert summary.split() == ["plants-links", "PASS"] * 2
    assert [path.name for path in victim.iterdir()] == ["secret"]
    assert (victim / "secret").read_text() == _PRIVATE
    for path in _all_below(run.output):
        assert path.resolve().is_relative_to(run.output.resolve()), path
        if path.is_file() and path.parts[-2:] != ("output", "log"):
            assert _PRIVATE.encode() not in path.read_bytes(), path


def test_artifacts_are_plain_files_and_folders_and_links_within(
    run: Run,
) -> None:
    for path in _all_below(run.output / "artifacts"):
        mode = path.lstat().st_mode
        assert stat.S_IFMT(mode) in {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}
        assert not mode & 0o7000 or path.is_symlink(), path
        assert path.lstat().st_uid == os.getuid()
    (within,) = (run.output / "artifacts").rglob("within")
    assert within.is_symlink()
    assert within.read_text() == "kept\n"
    assert within.with_name("hard").samefile(within)
    (sent,) = (run.output / "artifacts").rglob("from-the-guest")
    assert sent.read_text() == "written by a test of a package\n"


def test_log_says_what_was_left_out(run: Run) -> None:
    said = run.said
    for name in ("data", "notes.txt", "deep/deeper/up", "zigzag"):
        assert f"left out ./{name}: the link " in said
    assert "left out ./fifo: it is a device or a FIFO" in said


def test_links_that_are_left_out_come_back_in_another_testbed(
    opened: Server, scratch: str, tmp_path: Path
) -> None:
    """As a package's source is copied out, and in after a revert."""
    make = (
        'mkdir -p "$1/sub"; cd "$1"; ln -s /etc/hostname absolute;'
        " ln -s ../../x sub/out; ln -s absolute within; echo x >file"
    )
    opened.output("sh", "-ec", make, "sh", f"{scratch}/source")
    opened.ask("copyup", f"{scratch}/source/", f"{tmp_path}/tree/")
    here = {path.name for path in _all_below(tmp_path / "tree")}
    assert here == {"sub", "file", "within"}
    opened.ask("copydown", f"{tmp_path}/tree/", f"{scratch}/again/")
    list_ = ["find", ".", "-printf", "%y %p %l\\n"]
    both = ("source", "again")
    lists = [
        opened.output("env", f"--chdir={scratch}/{name}", *list_).splitlines()
        for name in both
    ]
    assert sorted(lists[0]) == sorted(lists[1])


def test_copy_over_a_limit_fails_and_names_it(
    start: Start, bookworm: str, tmp_path: Path
) -> None:
    setting = environment(INCUS_TESTBED_COPY_BYTES="1000000")
    server = start(bookworm, env=setting)
    (scratch,) = server.ask("open")
    for path in (f"{scratch}/large/", f"{scratch}/large/file"):
        server.execute("mkdir", f"{scratch}/large")
        server.execute("truncate", "--size=1G", f"{scratch}/large/file")
        end = "/" if path.endswith("/") else ""
        there = f"{tmp_path}/copy{end}"
        assert server.try_("copyup", path, there) == "copy-failed"
    assert not list(tmp_path.iterdir())
    server.ask("close")
    said = server.quit().said
    assert said.count("Set INCUS_TESTBED_COPY_BYTES to a larger number") == 2
