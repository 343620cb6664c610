# SPDX-License-Identifier: GPL-3.0-or-later
"""Numbers that an admin sets in the environment."""

import pytest

from incus_testbed import errors
from incus_testbed.limits import settings


def test_a_number_that_is_not_set_has_its_usual_value() -> None:
    assert settings.number("N", 10, {}) == 10
    assert settings.number("N", 10, {"N": " "}) == 10


def test_a_number_that_is_set() -> None:
    assert settings.number("N", 10, {"N": "0"}) == 0
    assert settings.number("N", 10, {"N": " 123 "}) == 123


@pytest.mark.parametrize("value", ["ten", "-1", "1.5", "10G", "\u0663"])
def test_odd_value_is_named(value: str) -> None:
    with pytest.raises(errors.Unsupported, match=f"N is '{value}'"):
        settings.number("N", 10, {"N": value})


def test_a_number_that_is_too_small() -> None:
    with pytest.raises(errors.Unsupported, match="not a positive"):
        settings.number("N", 10, {"N": "0"}, least=1)
