# SPDX-License-Identifier: GPL-3.0-or-later
"""One process of all machines at a time, and a dead one holds nobody up long.

Other machines' processes are played by what they have written to the server.
"""

import itertools
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import pytest

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.ownership import shared_lock
from incus_testbed.ownership.owner import Owner
from tests.support import owners
from tests.support.fake_incus import FakeIncus

_OWNER = "user.incus-testbed.owner"
#: Seconds after which something hangs.
_LIMIT = 20
_HOLDER = owners.ON_ANOTHER_MACHINE


@pytest.fixture
def incus(monkeypatch: pytest.MonkeyPatch) -> FakeIncus:
    for name, seconds in (
        ("PATIENCE", 0.5),
        ("PERIOD", 0.05),
        ("_LOOK", 0.02),
        ("_POLL", 0.01),
        ("_SETTLING", 0.1),
    ):
        monkeypatch.setattr(shared_lock, name, seconds)
    incus = FakeIncus()
    incus.become_cluster()
    return incus


def _held(
    incus: Incus,
    *,
    timeout: float = _LIMIT,
    is_needless: Callable[[], bool] = lambda: False,
    while_waiting: Callable[[], None] | None = None,
) -> AbstractContextManager[None]:
    return shared_lock.held(
        incus,
        "x",
        timeout=timeout,
        is_needless=is_needless,
        while_waiting=while_waiting,
    )


def _owners(incus: Incus) -> list[Owner]:
    return [*shared_lock.owners(incus).values()]


def _locked(incus: FakeIncus, owner: Owner) -> str:
    """Have another process hold the lock; return its profile's name."""
    with _held(incus):
        (name,) = shared_lock.owners(incus)
    incus.create_profile(name, config={_OWNER: str(owner)}, description="")
    return name


def _alive(incus: FakeIncus, name: str) -> Callable[[], None]:
    """Return what a living holder does at each look."""
    count = itertools.count()

    def change() -> None:
        if name in incus.profiles():
            incus.set_profile_keys(name, {"user.other": str(next(count))})

    return change


def test_it_is_held_and_then_gone(incus: FakeIncus) -> None:
    with _held(incus):
        assert _owners(incus) == [owners.MINE]
    assert _owners(incus) == []


def test_names_have_locks_of_their_own(incus: FakeIncus) -> None:
    other = shared_lock.held(
        incus, "y", timeout=0, is_needless=lambda: False, while_waiting=None
    )
    with _held(incus), other:
        assert len(_owners(incus)) == 2


def test_the_holder_shows_that_it_lives(incus: FakeIncus) -> None:
    with _held(incus):
        (name,) = shared_lock.owners(incus)
        before = incus.profile(name)["config"]
        deadline = time.monotonic() + _LIMIT
        while incus.profile(name)["config"] == before:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert _owners(incus) == [owners.MINE]


def test_a_lock_that_changes_is_waited_for(
    incus: FakeIncus, caplog: pytest.LogCaptureFixture
) -> None:
    name = _locked(incus, _HOLDER)

    with (
        pytest.raises(
            errors.TimedOut, match="of another machine, still works on x"
        ),
        _held(incus, timeout=1, while_waiting=_alive(incus, name)),
    ):
        pass

    assert _owners(incus) == [Owner(host=_HOLDER.host)]
    assert caplog.messages == [
        "another process, perhaps of another machine, works on x: waiting for"
        " it"
    ]


def test_a_lock_that_is_given_back(incus: FakeIncus) -> None:
    name = _locked(incus, _HOLDER)
    looks = itertools.count()

    def work() -> None:
        if next(looks) == 9:
            incus.delete_profile(name)

    with _held(incus, while_waiting=work):
        assert _owners(incus) == [owners.MINE]


def test_after_the_wait_there_may_be_nothing_to_do(incus: FakeIncus) -> None:
    name = _locked(incus, _HOLDER)
    done: list[bool] = []

    def work() -> None:
        if not done:
            incus.delete_profile(name)
            done.append(True)

    with _held(incus, while_waiting=work, is_needless=lambda: bool(done)):
        assert _owners(incus) == []


def test_a_lock_that_is_left_is_taken_over(incus: FakeIncus) -> None:
    name = _locked(incus, _HOLDER)
    start = time.monotonic()

    with _held(incus):
        assert shared_lock.owners(incus) == {name: owners.MINE}
        assert time.monotonic() - start > shared_lock.PATIENCE
    assert _owners(incus) == []


def test_the_lock_of_a_dead_process_of_this_machine_is_not_waited_for(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    _locked(incus, owners.GONE)
    monkeypatch.setattr(shared_lock, "PATIENCE", 1e9)

    with _held(incus, timeout=0):
        assert _owners(incus) == [owners.MINE]


def test_the_last_of_those_who_take_over_has_it(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = _locked(incus, _HOLDER)
    set_keys = incus.set_profile_keys
    late = [_HOLDER]

    def overtaken(name: str, config: Mapping[str, str]) -> None:
        set_keys(name, config)
        if _OWNER in config and late:
            set_keys(name, {_OWNER: str(late.pop())})

    monkeypatch.setattr(incus, "set_profile_keys", overtaken)

    with _held(incus):
        assert late == []
        assert shared_lock.owners(incus) == {name: owners.MINE}


def test_a_holder_that_was_suspended_leaves_the_next_ones_lock(
    incus: FakeIncus,
) -> None:
    with _held(incus):
        (name,) = shared_lock.owners(incus)
        incus.set_profile_keys(name, {_OWNER: str(_HOLDER)})

    assert _owners(incus) == [Owner(host=_HOLDER.host)]


def test_an_exception_ends_the_wait(incus: FakeIncus) -> None:
    _locked(incus, _HOLDER)

    def abort() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), _held(incus, while_waiting=abort):
        pass

    assert _owners(incus) == [Owner(host=_HOLDER.host)]


def test_an_error_in_the_work_gives_the_lock_back(incus: FakeIncus) -> None:
    with pytest.raises(errors.BadImage), _held(incus):
        raise errors.BadImage("the work failed")

    assert _owners(incus) == []


def test_a_user_who_may_not_make_profiles_works_without(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise errors.Restricted("not in your project")

    monkeypatch.setattr(incus, "create_profile", refuse)
    worked = False

    with _held(incus):
        worked = True

    assert worked


def test_a_renewal_that_fails_is_tried_again(
    incus: FakeIncus, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_keys = incus.set_profile_keys
    tries: list[object] = []
    renewed = threading.Event()

    def fail(name: str, config: Mapping[str, str]) -> None:
        tries.append(config)
        if len(tries) < 3:
            raise errors.DaemonDown("Incus is restarted")
        set_keys(name, config)
        renewed.set()

    monkeypatch.setattr(incus, "set_profile_keys", fail)

    with _held(incus):
        assert renewed.wait(_LIMIT)


def test_other_profiles_are_no_locks(incus: FakeIncus) -> None:
    name = _locked(incus, _HOLDER)
    incus.set_profile_keys(name, {_OWNER: "somebody"})
    incus.create_profile(
        f"{name}0", config={_OWNER: str(_HOLDER)}, description=""
    )

    assert shared_lock.owners(incus) == {}
