# SPDX-License-Identifier: GPL-3.0-or-later
"""The page about Debusine's own executor says what the tests go by."""

from tests.contract import page


def test_the_page_is_up_to_date() -> None:
    assert page.PAGE.read_text() == page.page()
