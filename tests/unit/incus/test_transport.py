# SPDX-License-Identifier: GPL-3.0-or-later
"""Questions by the incus command."""

import pytest

from incus_testbed.incus.transport import Query


@pytest.mark.parametrize(
    ("said", "answer"),
    [(b"\n", None), (b"", None), (b'{"a": []}\n', {"a": []})],
)
def test_what_incus_query_prints(said: bytes, answer: object) -> None:
    """It prints nothing for null."""
    asked: list[tuple[str, ...]] = []

    def run(*words: str) -> bytes:
        asked.append(words)
        return said

    query = Query(run, "far", "a b")
    assert query.get("operations", recursion=1) == answer
    path = "far:/1.0/operations?project=a%20b&recursion=1"
    assert asked == [("query", path)]
