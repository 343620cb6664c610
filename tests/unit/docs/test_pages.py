# SPDX-License-Identifier: GPL-3.0-or-later
"""The pages lead where they say, and tell commands from other text."""

import re
from pathlib import Path

import pytest

from tests.trips import pages

_MARKDOWN = [page for page in pages.pages() if page.suffix == ".md"]


@pytest.mark.parametrize(
    "page", _MARKDOWN, ids=lambda page: str(page.relative_to(pages.ROOT))
)
def test_links_lead_to_a_page_and_a_heading(page: Path) -> None:
    for link in pages.links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            assert anchor in pages.anchors(target), link


def test_a_page_is_reached_from_the_readme() -> None:
    reached: set[Path] = set()
    ahead = {pages.ROOT / "README.md"}
    while ahead:
        page = ahead.pop()
        reached.add(page)
        ahead |= {
            target
            for link in pages.links(page)
            if (target := (page.parent / link.partition("#")[0]).resolve())
            and target.suffix == ".md"
        } - reached

    assert set(_MARKDOWN) <= reached


def test_blocks_name_their_language() -> None:
    assert [block for block in pages.blocks() if not block.language] == []


@pytest.mark.parametrize(
    "page", _MARKDOWN, ids=lambda page: str(page.relative_to(pages.ROOT))
)
def test_blocks_are_fenced(page: Path) -> None:
    assert re.findall(r"\n\n    .*", pages.outside_blocks(page)) == []
