# SPDX-License-Identifier: GPL-3.0-or-later
"""A table that a test makes of its outcomes, and that a page shows."""

import os
import re
from collections.abc import Sequence
from pathlib import Path


def publish(
    page: Path, mark: str, headings: str, rows: Sequence[Sequence[str]]
) -> None:
    """Print a table; with WRITE_TABLES=1 in the environment, write it.

    ``headings`` is the table's first line.  In the page, the table stands
    between ``<!-- mark -->`` and ``<!-- end -->``.
    """
    lines = [
        headings,
        "|---" * (headings.count("|") - 1) + "|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    print("\n" + "\n".join(lines))
    if os.environ.get("WRITE_TABLES"):
        text = re.sub(
            rf"(?s)(<!-- {mark} -->\n).*?(?=<!-- end -->)",
            lambda match: match[1] + "\n".join(lines) + "\n",
            page.read_text(),
        )
        page.write_text(text)
