# SPDX-License-Identifier: GPL-3.0-or-later
"""The end of an instance: stopped, killed or removed, by whomever."""

import time
from collections.abc import Callable

import pytest

from incus_testbed import errors
from incus_testbed.instance import removal
from incus_testbed.instance.instance import Instance
from tests.support import tiny_guest
from tests.support.fake_incus import FakeIncus
from tests.support.imported import named

_DEAF = f"--config={tiny_guest.DEAF}"


@pytest.fixture
def incus() -> FakeIncus:
    incus = FakeIncus.set_up()
    named(incus, "t/image")
    return incus


def _launch(
    incus: FakeIncus, *arguments: str, ephemeral: bool = False
) -> Instance:
    return Instance.launch(
        incus,
        "t/image",
        purpose="test",
        name="it",
        ephemeral=ephemeral,
        arguments=arguments,
    )


def _is_there(incus: FakeIncus) -> bool:
    return any(record.name == "it" for record in incus.instances())


def test_stopping(incus: FakeIncus) -> None:
    _launch(incus).stop()

    assert incus.instance("it").status == "Stopped"


def test_what_does_not_listen_is_killed(incus: FakeIncus) -> None:
    _launch(incus, _DEAF).stop(grace=0.1)

    assert incus.instance("it").status == "Stopped"


@pytest.mark.parametrize("error", [errors.NotRunning, errors.NotFound])
def test_what_stops_before_it_is_killed(
    incus: FakeIncus,
    monkeypatch: pytest.MonkeyPatch,
    error: type[errors.TestbedError],
) -> None:
    launched = _launch(incus, _DEAF)

    def kill(_: str) -> None:
        raise error("too late")

    monkeypatch.setattr(incus, "kill", kill)

    launched.stop(grace=0)


def test_what_can_not_be_killed_is_an_error(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    launched = _launch(incus, _DEAF)

    def kill(_: str) -> None:
        raise errors.CommandFailed("it hangs")

    monkeypatch.setattr(incus, "kill", kill)

    with pytest.raises(errors.CommandFailed, match="it hangs"):
        launched.stop(grace=0)


def test_stopping_what_is_down_or_gone(
    incus: FakeIncus, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    launched = _launch(incus)
    launched.stop()
    launched.stop()
    assert incus.instance("it").status == "Stopped"

    launched.delete()
    launched.stop()
    assert not _is_there(incus)
    # It is not said that it does not stop.
    assert not caplog.messages


@pytest.mark.parametrize("ephemeral", [False, True])
@pytest.mark.parametrize("arguments", [[], [_DEAF]])
def test_removing(
    incus: FakeIncus, ephemeral: bool, arguments: list[str]
) -> None:
    launched = _launch(incus, *arguments, ephemeral=ephemeral)

    launched.delete()
    assert not _is_there(incus)

    launched.delete()


@pytest.fixture
def refusals(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> list[Callable[[], None]]:
    """Have what is in this list happen instead of removals, in turn."""
    events: list[Callable[[], None]] = []
    delete = incus.delete

    def late(name: str) -> None:
        if events:
            events.pop(0)()
        else:
            delete(name)

    monkeypatch.setattr(incus, "delete", late)
    monkeypatch.setattr(time, "sleep", lambda _: None)
    return events


def _raise(error: type[errors.TestbedError]) -> Callable[[], None]:
    def event() -> None:
        raise error("not now")

    return event


@pytest.mark.parametrize(
    "error", [errors.Busy, errors.NotRunning, errors.CommandFailed]
)
def test_what_incus_is_removing_already(
    incus: FakeIncus,
    refusals: list[Callable[[], None]],
    error: type[errors.TestbedError],
) -> None:
    launched = _launch(incus)
    refusals += [_raise(error), _raise(error), _raise(errors.NotFound)]

    launched.delete()

    assert refusals == []


def test_what_is_busy_is_removed_a_little_later(
    incus: FakeIncus, refusals: list[Callable[[], None]]
) -> None:
    launched = _launch(incus)
    refusals += [_raise(errors.Busy)]

    launched.delete()

    assert not _is_there(incus)


def test_what_is_busy_for_ever(
    incus: FakeIncus,
    refusals: list[Callable[[], None]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    launched = _launch(incus)
    refusals += [_raise(errors.Busy)] * 3
    monkeypatch.setattr(removal, "_LIMIT", -1)

    with pytest.raises(errors.Busy):
        launched.delete()

    assert len(refusals) == 2


def test_what_may_not_be_removed(
    incus: FakeIncus, refusals: list[Callable[[], None]]
) -> None:
    launched = _launch(incus)
    refusals += [_raise(errors.Denied)] * 2

    with pytest.raises(errors.Denied):
        launched.delete()

    assert len(refusals) == 1
