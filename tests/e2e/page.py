# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands and files that a page of docs/ shows, for a test to use."""

from pathlib import Path

from tests.trips import pages


def path(name: str) -> Path:
    """Return the file of a how-to."""
    return pages.ROOT / "docs" / "howto" / name


def blocks(name: str, section: str, language: str) -> list[str]:
    """Return the fenced blocks of a section of a how-to, in their order.

    ``language`` is what follows the fence.
    """
    place = f"docs/howto/{name}: {section}"
    found = [block for block in pages.blocks() if block.place == place]
    assert found, f"{name} has no section {section!r}"
    return [block.text for block in found if block.language == language]
