# SPDX-License-Identifier: GPL-3.0-or-later
"""Packages whose tests mean harm, with the real autopkgtest."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from .runs import PACKAGES, Run, autopkgtest

pytestmark = pytest.mark.usefixtures("nothing_left")

_PRIVATE = "what only the worker may read\n"


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    """Return a folder of the host, which guests have no business with."""
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "secret").write_text(_PRIVATE)
    return folder


@pytest.fixture
def run(bookworm: str, victim: Path, tmp_path: Path) -> Run:
    """Return a run of the hostile package's tests."""
    return autopkgtest(
        *(tmp_path / "output", bookworm, f"--env=VICTIM={victim}"),
        *("--no-built-binaries", PACKAGES / "hostile"),
    )


def _all_below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in [*folders, *files])


def test_nothing_of_the_host_is_written_or_given_away(
    run: Run, victim: Path
) -> None:
    assert run.results == {"plants-links": "PASS", "replaces-tar": "PASS"}
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
