# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine whose package manager has nothing to say."""

import pytest

from incus_testbed.host import fixes


@pytest.fixture(autouse=True)
def _quick_apt(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Don't ask apt, which takes most of the time of a doctor."""
    if "test_fixes" not in request.node.nodeid:
        monkeypatch.setattr(fixes, "_candidate", str)
