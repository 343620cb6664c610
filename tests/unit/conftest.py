# SPDX-License-Identifier: GPL-3.0-or-later
"""Settings for machines that have other things to do, too."""

import pytest
from hypothesis import HealthCheck, settings

from incus_testbed.host import fixes

settings.register_profile(
    "noisy", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("noisy")


@pytest.fixture(autouse=True)
def _quick_apt(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Don't ask apt, which takes most of the time of a doctor."""
    if "test_fixes" not in request.node.nodeid:
        monkeypatch.setattr(fixes, "_candidate", str)


@pytest.fixture(autouse=True)
def _without_an_incus(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at no pool of this machine: the Incus of a test is a fake one."""
    monkeypatch.setenv("INCUS_DIR", "/var/lib/incus-of-no-test")
