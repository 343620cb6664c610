# SPDX-License-Identifier: GPL-3.0-or-later
"""What a client asks, and how often."""

from typing import Any

import pytest

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.incus.connection import Connection


class _Server:
    """It notes what it is asked, and answers with something new each time."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def get(self, path: str, *, recursion: int = 0) -> Any:
        self.asked.append((path, recursion))
        if path == "absent":
            raise errors.NotFound("There is none")
        return len(self.asked)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> _Server:
    server = _Server()
    monkeypatch.setattr(Connection, "_transport", lambda _: server)
    return server


@pytest.mark.usefixtures("server")
def test_each_question_is_asked_again() -> None:
    incus = Incus()

    assert [incus.get("a"), incus.get("a")] == [1, 2]


def test_each_question_is_asked_once_meanwhile(server: _Server) -> None:
    incus = Incus()

    with incus.asking_once():
        first = [incus.get("a"), incus.get("a", recursion=1), incus.get("b")]
        again = [incus.get("a"), incus.get("a", recursion=1), incus.get("b")]
        for _ in range(2):
            with pytest.raises(errors.NotFound):
                incus.get("absent")

    assert first == again == [1, 2, 3]
    assert server.asked.count(("absent", 0)) == 2
    assert incus.get("a") == 6


@pytest.mark.usefixtures("server")
def test_a_failure_ends_that_too() -> None:
    incus = Incus()
    with pytest.raises(ZeroDivisionError), incus.asking_once():
        raise ZeroDivisionError

    assert [incus.get("a"), incus.get("a")] == [1, 2]
