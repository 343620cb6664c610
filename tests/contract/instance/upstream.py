# SPDX-License-Identifier: GPL-3.0-or-later
"""What Debusine's own IncusInstance does not do.

    python3 -m tests.contract.instance.upstream

writes the page that says so, docs/upstream-differences.md.
"""

#: Case -> what happens instead.
DIFFERENCES: dict[str, str] = {}


def case(test: str) -> str:
    """Return the case that a test of upstream's asks, without ``test_``."""
    return ""
