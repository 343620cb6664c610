# SPDX-License-Identifier: GPL-3.0-or-later
"""How often a requirement's commands are tried."""

from typing import Any

import pytest

from incus_testbed import errors
from incus_testbed.host import remedy
from incus_testbed.host.requirement import Finding, Requirement, failed, good
from incus_testbed.incus.client import Incus

_COMMAND = ("incus", "network", "create", "br")
_DISTURBED = errors.Busy("Incus was disturbed")
_REFUSED = errors.CommandFailed("no")


class Server(Incus):
    """An Incus whose commands fail in this order, and then succeed."""

    def __init__(self, *failures: errors.TestbedError) -> None:
        """Plan the failures."""
        super().__init__(project="p")
        self._failures = iter(failures)
        self.runs = 0
        self.done = False

    def argv(self, *words: str) -> list[str]:
        """Return the words as they are."""
        return ["incus", *words]

    def run(self, *_words: str, **_options: Any) -> bytes:
        """Count; fail as planned."""
        self.runs += 1
        for failure in self._failures:
            raise failure
        self.done = True
        return b""

    def requirement(self) -> Requirement:
        """Return what is met when a command has succeeded."""

        def check() -> Finding:
            return (
                good("") if self.done else failed("no bridge", fix=(_COMMAND,))
            )

        return Requirement("bridge", check)


@pytest.fixture(autouse=True)
def _no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remedy, "_PAUSE", 0.0)


def test_disturbances_do_not_count() -> None:
    server = Server(*[_DISTURBED] * 20)
    shown = list(remedy.apply(server, server.requirement(), dry_run=False))
    assert len(shown) == server.runs == 21


def test_disturbances_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remedy, "_PATIENCE", 0.0)
    server = Server(*[_DISTURBED] * 20)
    with pytest.raises(errors.Busy):
        list(remedy.apply(server, server.requirement(), dry_run=False))
    assert server.runs == 3


def test_other_failures_are_tried_three_times() -> None:
    server = Server(_DISTURBED, *[_REFUSED] * 20)
    with pytest.raises(errors.CommandFailed):
        list(remedy.apply(server, server.requirement(), dry_run=False))
    assert server.runs == 1 + 3
