# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a download tells no secret."""

import pytest

from debusine_incus.download import _without_queries

_SIGNED = "https://store.example/file?X-Amz-Signature=SECRET&X-Amz-Date=1"


@pytest.mark.parametrize(
    "said",
    [
        _SIGNED,
        f"404 Client Error: Not Found for url: {_SIGNED}",
        f"Max retries exceeded with url: '/file?Signature=SECRET' ({_SIGNED})",
        "https://user:SECRET@store.example/file",
    ],
)
def test_signatures_and_passwords_are_left_out(said: str) -> None:
    shown = _without_queries(said)
    assert "SECRET" not in shown
    assert "/file" in shown
