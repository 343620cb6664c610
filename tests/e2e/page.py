# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands and files that a page of docs/ shows, for a test to use."""

import re
from pathlib import Path

from tests.e2e.packages import ROOT


def path(name: str) -> Path:
    """Return the file of a how-to."""
    return ROOT / "docs" / "howto" / name


def blocks(name: str, section: str, language: str) -> list[str]:
    """Return the fenced blocks of a section of a how-to, in their order.

    ``language`` is what follows the fence.
    """
    _, _, after = path(name).read_text().partition(f"\n## {section}\n")
    assert after, f"{name} has no section {section!r}"
    text = after.partition("\n## ")[0]
    found = re.findall(r"(?ms)^```(\w*)\n(.*?)^```$", text)
    return [content for kind, content in found if kind == language]
