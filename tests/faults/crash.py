# SPDX-License-Identifier: GPL-3.0-or-later
"""One operation, left alone or cut short."""

import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.faults.operation import Operation
from tests.faults.workspace import Workspace

#: Seconds for an operation, also on a machine with much else to do.
LIMIT = 300

#: Kills what a process has to do with.
Kill = Callable[[int], None]


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """How an operation ended: its status and what it said.

    ``seconds`` is what it took, ``moment`` when it was to be cut short.
    """

    operation: str
    moment: float
    status: int
    seconds: float
    said: str


@dataclass(frozen=True, kw_only=True)
class Crash:
    """An attempt, and what should hold after it and does not."""

    attempt: Attempt
    broken: tuple[str, ...]


def alone(process: int) -> None:
    """Kill a process; its children live on."""
    os.kill(process, signal.SIGKILL)


def with_session(process: int) -> None:
    """Kill all processes of a session, as far as they have stayed in it."""
    os.killpg(process, signal.SIGKILL)


def attempt(
    workspace: Workspace,
    operation: Operation,
    *,
    moment: float = LIMIT,
    kill: Kill = with_session,
) -> Attempt:
    """Start an operation, and kill after ``moment`` seconds.

    ``kill`` is called with the operation's process; not if that has ended.
    """
    with tempfile.TemporaryFile() as said:
        start = time.monotonic()
        child = operation.start(workspace.environment(), said)
        try:
            child.wait(moment)
        except subprocess.TimeoutExpired:
            kill(child.pid)
            child.wait(LIMIT)
        finally:
            child.kill()
            child.wait()
        seconds = time.monotonic() - start
        said.seek(0)
        return Attempt(
            operation=operation.name,
            moment=moment,
            status=child.returncode,
            seconds=seconds,
            said=said.read().decode(errors="replace"),
        )


def crash(
    workspace: Workspace, operation: Operation, *, moment: float, kill: Kill
) -> Crash:
    """Cut an operation short, and look around once all is at rest."""
    tried = attempt(workspace, operation, moment=moment, kill=kill)
    workspace.settle()
    return Crash(attempt=tried, broken=tuple(workspace.broken()))


def whole(workspace: Workspace, operation: Operation) -> Attempt:
    """Run an operation to its end, which has to be a good one."""
    done = attempt(workspace, operation)
    assert done.status == 0, done
    workspace.settle()
    assert not list(workspace.broken()), done
    return done


def spread(seconds: float, count: int) -> Iterator[float]:
    """Yield moments of an operation that takes so long, end included."""
    for number in range(count):
        yield seconds * 1.05 * (number + 0.5) / count
