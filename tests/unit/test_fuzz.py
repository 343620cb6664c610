# SPDX-License-Identifier: GPL-3.0-or-later
"""Every parser, with files changed at random, for some seconds each.

``make fuzz`` does it for long.
"""

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz.attempt import attempt
from tests.fuzz.targets import TARGETS, available

#: Seconds for each target.
_LIMIT = 3.0


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_nothing_but_a_refusal_comes_out(name: str) -> None:
    if not available(name):
        pytest.skip("the programs that make its files are missing")
    attempt(name, 0)  # makes the files
    end = time.monotonic() + _LIMIT

    @settings(
        max_examples=400,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(number=st.integers(0, 1 << 64))
    def tried(number: int) -> None:
        if time.monotonic() < end:
            attempt(name, number)

    tried()
