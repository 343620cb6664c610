# SPDX-License-Identifier: GPL-3.0-or-later
"""How often a worker finds out whether it can run instances."""

import pytest

from debusine_incus.executor import IncusExecutor


class _Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> _Clock:
    made = _Clock()
    monkeypatch.setattr("debusine_incus.executor.time", made)
    monkeypatch.setattr(
        "incus_testbed.instance.patience.factor", lambda *_, **__: 1
    )
    return made


def _executor(clock: _Clock, seconds: float) -> type[IncusExecutor]:
    """Return a backend whose check takes so long."""

    class Executor(IncusExecutor):
        backend_name = "test"
        found: tuple[str, ...] = ()
        checks = 0

        @classmethod
        def _obstacles(cls) -> list[str]:
            cls.checks += 1
            clock.now += seconds
            return list(cls.found)

    return Executor


@pytest.mark.parametrize(
    ("seconds", "checks"),
    [pytest.param(1, 2, id="quick"), pytest.param(40, 1, id="slow")],
)
def test_what_took_long_is_not_done_again_at_once(
    clock: _Clock, seconds: float, checks: int
) -> None:
    executor = _executor(clock, seconds)
    assert executor.available()
    assert executor.available()
    assert executor.checks == checks  # type: ignore[attr-defined]


def test_what_took_long_is_done_again_later(clock: _Clock) -> None:
    executor = _executor(clock, 40)
    assert executor.available()
    clock.now += 400
    executor.found = ("the daemon is gone",)  # type: ignore[attr-defined]
    assert not executor.available()


def test_an_obstacle_is_looked_for_again(clock: _Clock) -> None:
    executor = _executor(clock, 40)
    executor.found = ("no KVM",)  # type: ignore[attr-defined]
    assert not executor.available()
    executor.found = ()  # type: ignore[attr-defined]
    assert executor.available()
