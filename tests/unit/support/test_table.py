# SPDX-License-Identifier: GPL-3.0-or-later
"""A table in a page, of which a test that takes long writes some rows."""

from pathlib import Path

import pytest

from tests.support import table

_PAGE = "before\n<!-- made -->\n<!-- end -->\nafter\n"
_HEADINGS = "| name | state |"


def test_rows_are_written_one_by_one_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WRITE_TABLES", "1")
    page = tmp_path / "page.md"
    page.write_text(_PAGE)
    order = ["first", "second"]

    for row in (["second", "old"], ["gone", "x"], ["first", "a"]):
        table.update(page, "made", _HEADINGS, [row], order)
    table.update(page, "made", _HEADINGS, [["second", "new"]], order)

    assert page.read_text() == (
        "before\n<!-- made -->\n| name | state |\n|---|---|\n"
        "| first | a |\n| second | new |\n<!-- end -->\nafter\n"
    )
