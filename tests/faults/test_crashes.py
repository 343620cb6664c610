# SPDX-License-Identifier: GPL-3.0-or-later
"""A process, or the daemon, is killed at several moments of an operation.

``make soak`` does it at hundreds.
"""

import pytest

from tests.faults import soak
from tests.faults.crash import Kill, alone, spread, whole, with_session
from tests.faults.field import Field

_MOMENTS = 2

_each_operation = pytest.mark.parametrize(
    "number", range(4), ids=["import", "run", "life", "virt-server"]
)


@_each_operation
@pytest.mark.parametrize("kill", [alone, with_session])
def test_killed_process(field: Field, number: int, kill: Kill) -> None:
    operation = field.operations[number]
    for moment in spread(field.seconds[operation.name], _MOMENTS):
        crash = field.crash(operation, moment=moment, kill=kill)
        assert not crash.broken, crash
    field.clear()
    whole(field.ground, operation)


@_each_operation
def test_killed_daemon(field: Field, number: int) -> None:
    operation = field.operations[number]
    for moment in spread(field.seconds[operation.name], _MOMENTS):
        crash = field.crash(operation, moment=moment, kill=field.kill_daemon)
        assert not crash.broken, crash
        assert "Traceback" not in crash.attempt.said, crash
    field.clear()
    whole(field.ground, operation)


def test_instances_one_after_the_other(field: Field) -> None:
    assert soak.cycles(field, 10) == []


def test_processes_side_by_side(field: Field) -> None:
    count, wrong = soak.stampede(field, 20)
    assert wrong == []
    assert count >= soak.AT_ONCE
