# SPDX-License-Identifier: GPL-3.0-or-later
"""The cache's bounds, as an admin sets them."""

import pytest

from debusine_incus.bounds import KEEP, MAX_BYTES, Bounds
from incus_testbed import errors


def test_usual_bounds() -> None:
    usual = Bounds(keep=10, max_bytes=10 * 1024**3)
    assert Bounds.from_environment({}) == usual
    assert Bounds.from_environment({KEEP: "", MAX_BYTES: " "}) == usual


def test_bounds_that_are_set() -> None:
    assert Bounds.from_environment({KEEP: "0", MAX_BYTES: " 123 "}) == Bounds(
        keep=0, max_bytes=123
    )


@pytest.mark.parametrize("value", ["ten", "-1", "1.5", "10G", "\u0663"])
@pytest.mark.parametrize("name", [KEEP, MAX_BYTES])
def test_odd_value_is_named(name: str, value: str) -> None:
    with pytest.raises(errors.Unsupported, match=f"{name} is '{value}'"):
        Bounds.from_environment({name: value})
