# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debusine of each generation, one after the other."""

from collections.abc import Iterator

import pytest

from incus_testbed.client import Incus
from tests.e2e.installation import (
    GENERATIONS,
    Installation,
    installed,
)


@pytest.fixture(
    scope="module", params=GENERATIONS, ids=[each.suite for each in GENERATIONS]
)
def site(
    request: pytest.FixtureRequest,
    incus_environment: object,
    room_for_many: None,
) -> Iterator[Installation]:
    """Give a Debusine with this software on its worker."""
    del incus_environment, room_for_many
    with installed(Incus(), request.param) as installation:
        yield installation
