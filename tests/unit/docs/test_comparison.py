# SPDX-License-Identifier: GPL-3.0-or-later
"""What the comparison says of autopkgtest's virt servers is in their source."""

import re
from pathlib import Path

from tests.trips import pages

_PAGE = pages.ROOT / "docs/explanation/comparison.md"


def test_capabilities_are_those_in_autopkgtests_source() -> None:
    heading, _, *rows = re.findall(r"(?m)^\| (.*) \|$", _table())
    capabilities = re.findall(r"`([a-z-]+)`", heading)[1:]
    compared = 0
    for row in rows:
        servers, *cells = row.split(" | ")
        for server in re.findall(r"`([a-z]+)`", servers):
            program = Path(f"/usr/bin/autopkgtest-virt-{server}")
            if program.exists():
                source = program.read_text()
                told = [cell != "no" for cell in cells]
                has = [
                    bool(re.search(f"['\"]{name}['\"]", source))
                    for name in capabilities
                ]
                assert told == has, server
                compared += 1
    assert compared


def _table() -> str:
    return _PAGE.read_text().split("## ")[1]
