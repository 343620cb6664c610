# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration of the incus command is read as it is now."""

from pathlib import Path
from typing import Any

import pytest

from incus_testbed.incus import configuration


def _read(folder: Path, text: str | bytes) -> Any:
    data = text if isinstance(text, bytes) else text.encode()
    (folder / "config.yml").write_bytes(data)
    return configuration.read(folder)


def test_what_has_changed_is_read_again(tmp_path: Path) -> None:
    assert _read(tmp_path, "default-remote: one\n") == {"default-remote": "one"}
    assert _read(tmp_path, "default-remote: two\n") == {"default-remote": "two"}


def test_there_is_none(tmp_path: Path) -> None:
    assert configuration.read(tmp_path) is None


@pytest.mark.parametrize("text", ["", "\n", "text\n", "- a\n", b"\xff: a\n"])
def test_what_is_no_mapping(tmp_path: Path, text: str | bytes) -> None:
    assert _read(tmp_path, text) is None
