# SPDX-License-Identifier: GPL-3.0-or-later
"""The worker's wrapper on a real Incus: nothing outlives its work request.

Debusine's own part, the connection to a server, is replaced: tests/e2e has it.
"""

import os
import signal
import subprocess
import sys
import time

import pytest

from debusine_incus import worker
from debusine_incus.instance import IncusInstance
from incus_testbed import errors
from incus_testbed.cleanup import garbage
from incus_testbed.incus.client import Incus
from incus_testbed.instance.creation import OWNER_KEY
from incus_testbed.ownership.owner import Owner
from tests.support import owners

#: What a worker does, in place of Debusine's entry point: argv[1] is the
#: image, argv[2] what happens while a task runs in a thread.
_WORKER = """
import subprocess
import sys
import threading
import time
from debusine_incus import worker
from debusine_incus.instance import IncusInstance

def task():
    instance = IncusInstance(sys.argv[1])
    instance.start()
    print(instance.name, flush=True)
    instance.run(["sleep", "600"], run_as_root=True, stdin=subprocess.DEVNULL)

def entry_point():
    if sys.argv[2] == "idle":
        time.sleep(600)
    threading.Thread(target=task).start()
    sys.stdin.readline()
    raise SystemExit(7)

worker.entry_point = entry_point
worker.main()
"""


def _start(image: str, what: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", _WORKER, image, what],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def _names(incus: Incus) -> set[str]:
    return {record.name for record in incus.instances()}


def _wait_gone(incus: Incus, name: str) -> None:
    deadline = time.monotonic() + 60
    while name in _names(incus):
        assert time.monotonic() < deadline
        time.sleep(0.1)


class _Task:
    """A work request that starts an instance and fails before its cleanup."""

    def __init__(self, image: str) -> None:
        self.image = image
        self.name: str | None = None

    def execute_logging_exceptions(self) -> bool:
        instance = IncusInstance(self.image)
        instance.start()
        self.name = instance.name
        raise RuntimeError("configuring failed")


def test_what_a_failed_request_leaves_is_removed(
    incus: Incus, bookworm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        _Task,
        "execute_logging_exceptions",
        _Task.execute_logging_exceptions,
    )
    worker.clean_up_after(_Task)
    task = _Task(bookworm)
    with pytest.raises(RuntimeError, match="configuring failed"):
        task.execute_logging_exceptions()
    assert task.name
    assert task.name not in _names(incus)


def test_what_a_child_of_a_request_leaves_is_removed(
    incus: Incus, bookworm: str
) -> None:
    """A request's children are killed when it is aborted."""

    def orphan(name: str, owner: Owner) -> None:
        key = f"--config={OWNER_KEY}={owner}"
        incus.run("init", bookworm, name, key, timeout=300)

    class Aborted:
        def execute_logging_exceptions(self) -> bool:
            orphan("of-a-child", owners.GONE)
            orphan("of-another", owners.IN_ANOTHER_CONTAINER)
            return True

    worker.clean_up_after(Aborted)
    try:
        assert Aborted().execute_logging_exceptions()
        assert {"of-another"} == _names(incus) & {"of-a-child", "of-another"}
    finally:
        incus.delete("of-another")


def test_what_could_not_be_removed_is_removed_after_the_next_request(
    incus: Incus, bookworm: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Task:
        def execute_logging_exceptions(self) -> None:
            if not left:
                key = f"--config={OWNER_KEY}={owners.GONE}"
                incus.run("init", bookworm, "left", key, timeout=300)
                left.append("left")

    def refuse(*_: object) -> None:
        raise errors.DaemonDown("Incus is restarted")

    left: list[str] = []
    worker.clean_up_after(Task)
    with monkeypatch.context() as patch:
        patch.setattr(garbage, "orphans", refuse)
        Task().execute_logging_exceptions()
    assert "left" in _names(incus)
    Task().execute_logging_exceptions()
    assert "left" not in _names(incus)


def test_a_worker_that_ends_takes_its_running_task_with_it(
    incus: Incus, bookworm: str
) -> None:
    with _start(bookworm, "work") as process:
        assert process.stdin
        assert process.stdout
        name = process.stdout.readline().strip()
        assert name in _names(incus)
        process.stdin.write("end\n")
        process.stdin.flush()
        assert process.wait(60) == 7
    assert name not in _names(incus)


def test_the_next_worker_removes_what_a_killed_one_left(
    incus: Incus, bookworm: str
) -> None:
    with _start(bookworm, "work") as process:
        assert process.stdout
        name = process.stdout.readline().strip()
        os.kill(process.pid, signal.SIGKILL)
    assert name in _names(incus)
    with _start(bookworm, "idle") as process:
        try:
            _wait_gone(incus, name)
        finally:
            process.kill()


def test_a_worker_without_incus_works(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("INCUS_SOCKET", "/nonexistent/socket")
    worker.clean_up()
    assert "Incus could not be cleaned up" in caplog.text
