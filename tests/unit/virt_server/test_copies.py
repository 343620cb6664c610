# SPDX-License-Identifier: GPL-3.0-or-later
"""A folder's copy counts when the testbed has said that it is whole."""

import contextlib
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from incus_testbed import errors
from incus_testbed.virt_server.copies import Copies


@contextlib.contextmanager
def _no_limit() -> Iterator[None]:
    yield


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a folder to copy."""
    folder = tmp_path / "tree"
    (folder / "d").mkdir(parents=True)
    (folder / "d/file").write_text("x" * 100_000)
    return folder


def _copy(auxverb: Sequence[str], tree: Path, target: Path) -> list[str]:
    return Copies().copy_folder(auxverb, f"{tree}/", f"{target}/", _no_limit)


def _with_tar(folder: Path, script: str) -> list[str]:
    """Return words that run a command with another tar."""
    folder.mkdir()
    tar = folder / "tar"
    tar.write_text(f"#!/bin/sh\n{script}\n")
    tar.chmod(0o755)
    return ["env", f"PATH={folder}:/usr/bin:/bin"]


def test_end_of_the_command_is_not_waited_for(
    tree: Path, tmp_path: Path
) -> None:
    lasting = ["sh", "-c", '"$@"; exec sleep 600', "sh"]
    began = time.monotonic()
    assert not _copy(lasting, tree, tmp_path / "target")
    assert time.monotonic() - began < 60
    copied = tmp_path / "target/d/file"
    assert copied.read_text() == "x" * 100_000


@pytest.mark.parametrize("status", [1, 2, 137])
def test_tar_that_fails_in_the_end(
    tree: Path, tmp_path: Path, status: int
) -> None:
    auxverb = _with_tar(tmp_path / "bin", f'/bin/tar "$@"; exit {status}')
    with pytest.raises(errors.CommandFailed, match=f"status {status}"):
        _copy(auxverb, tree, tmp_path / "target")
    assert {path.name for path in tmp_path.iterdir()} == {"tree", "bin"}


@pytest.mark.parametrize(
    "script",
    [
        "printf '%512s' whole",
        "head -c 512 /dev/zero",
        '/bin/tar "$@"; printf x',
        "/bin/tar \"$@\"; printf '%512s' Whole",
    ],
)
def test_what_only_looks_whole(tree: Path, tmp_path: Path, script: str) -> None:
    auxverb = _with_tar(tmp_path / "bin", script)
    with pytest.raises(errors.CommandFailed, match="testbed sent"):
        _copy(auxverb, tree, tmp_path / "target")
    assert {path.name for path in tmp_path.iterdir()} == {"tree", "bin"}
