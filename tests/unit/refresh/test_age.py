# SPDX-License-Identifier: GPL-3.0-or-later
"""Ages, as users write and read them."""

from datetime import timedelta

import pytest

from incus_testbed import errors
from incus_testbed.refresh import age


@pytest.mark.parametrize(
    ("text", "seconds", "shown"),
    [
        ("1d", 86400, "1 d"),
        ("36h", 36 * 3600, "1 d"),
        ("12h", 43200, "12 h"),
        ("90m", 5400, "1 h"),
        ("30m", 1800, "30 m"),
        ("0m", 0, "0 m"),
        ("99999d", 99999 * 86400, "99999 d"),
    ],
)
def test_an_age(text: str, seconds: int, shown: str) -> None:
    found = age.parse(text)

    assert found == timedelta(seconds=seconds)
    assert age.text(found) == shown


@pytest.mark.parametrize(
    "text",
    ["", "d", "1", "1w", "1 d", "-1d", "1.5d", "1d\n", "\u0661d", "100000d"],
)
def test_what_is_no_age(text: str) -> None:
    with pytest.raises(errors.TestbedError, match="not an age") as caught:
        age.parse(text)
    assert "12h" in caught.value.resolution
