# SPDX-License-Identifier: GPL-3.0-or-later
"""What the client does about failures that pass."""

from typing import Any

import pytest

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.process import programs
from incus_testbed.process.programs import Completed


def _completed(status: int, stdout: bytes, stderr: str) -> Completed:
    return Completed(argv=(), status=status, stdout=stdout, stderr=stderr)


_DISTURBED = _completed(
    1,
    b"",
    "Error: Failed to run: ip -d -j link show veth1: exit status 1"
    ' (Device "veth1" does not exist.)',
)
_REFUSED = _completed(1, b"", "Error: not authorized")
_DONE = _completed(0, b"done", "")


def _answer(
    monkeypatch: pytest.MonkeyPatch, *answers: Completed
) -> list[Completed]:
    left = [*answers]

    def run(*args: Any, **options: Any) -> Completed:
        del args, options
        return left.pop(0)

    monkeypatch.setattr(programs, "run", run)
    return left


def test_a_network_card_that_goes_away_meanwhile_does_no_harm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _answer(monkeypatch, _DISTURBED, _DISTURBED, _DONE)
    assert Incus().run("network", "create", "x") == b"done"


def test_it_is_said_if_that_does_not_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _answer(monkeypatch, *[_DISTURBED] * 4)
    with pytest.raises(errors.Busy, match="disturbed"):
        Incus().run("network", "create", "x")


def test_other_failures_are_not_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    left = _answer(monkeypatch, _REFUSED, _DONE)
    with pytest.raises(errors.Denied):
        Incus().run("network", "create", "x")
    assert left == [_DONE]
