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
    _write(page, mark, headings, rows)


def update(
    page: Path,
    mark: str,
    headings: str,
    rows: Sequence[Sequence[str]],
    order: Sequence[str],
) -> None:
    """Do the same with some rows; the page keeps the others.

    ``order`` has the first column of all rows that there may be.
    """
    found = re.search(
        rf"(?s)<!-- {mark} -->\n(.*?)<!-- end -->", page.read_text()
    )
    assert found
    kept = [
        [cell.strip() for cell in line.strip("|\n").split("|")]
        for line in found[1].splitlines()[2:]
    ]
    known = {row[0]: row for row in [*kept, *rows] if row[0] in order}
    _write(
        page,
        mark,
        headings,
        sorted(known.values(), key=lambda row: order.index(row[0])),
    )


def _write(
    page: Path, mark: str, headings: str, rows: Sequence[Sequence[str]]
) -> None:
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
