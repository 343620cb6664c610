# SPDX-License-Identifier: GPL-3.0-or-later
"""A process, or the daemon, is killed at several moments of an operation.

``make soak`` does it at hundreds.
"""

import pytest

from tests.faults import soak
from tests.faults.crash import Kill, alone, spread, whole, with_session
from tests.faults.private_incus import PrivateIncus

_MOMENTS = 2

_each_operation = pytest.mark.parametrize(
    "number", range(4), ids=["import", "run", "life", "virt-server"]
)


@_each_operation
@pytest.mark.parametrize("kill", [alone, with_session])
def test_killed_process(
    private_incus: PrivateIncus, number: int, kill: Kill
) -> None:
    operation = private_incus.operations[number]
    for moment in spread(private_incus.seconds[operation.name], _MOMENTS):
        crash = private_incus.crash(operation, moment=moment, kill=kill)
        assert not crash.broken, crash
    private_incus.clear()
    whole(private_incus.workspace, operation)


@_each_operation
def test_killed_daemon(private_incus: PrivateIncus, number: int) -> None:
    operation = private_incus.operations[number]
    for moment in spread(private_incus.seconds[operation.name], _MOMENTS):
        crash = private_incus.crash(
            operation, moment=moment, kill=private_incus.kill_daemon
        )
        assert not crash.broken, crash
        assert "Traceback" not in crash.attempt.said, crash
    private_incus.clear()
    whole(private_incus.workspace, operation)


def test_instances_one_after_the_other(private_incus: PrivateIncus) -> None:
    assert soak.cycles(private_incus, 10) == []


def test_processes_side_by_side(private_incus: PrivateIncus) -> None:
    count, wrong = soak.stampede(private_incus, 20)
    assert wrong == []
    assert count >= soak.AT_ONCE
