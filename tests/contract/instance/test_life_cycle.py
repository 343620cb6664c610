# SPDX-License-Identifier: GPL-3.0-or-later
"""From nothing to a running guest and back."""

import os
import time
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

import pytest
from debusine.tasks.executors.base import (
    ImageNotDownloadedError,
    InstanceInterface,
    InstanceNotRunning,
    InstanceRunning,
)

from incus_testbed.incus.client import Incus

from .conftest import Stubborn
from .pace import PACE
from .test_streams import standard_input

#: Seconds: those that a guest has to shut down, and some for the rest.
_STOP_LIMIT = 30 + 15 * PACE

_CALLS: dict[str, Callable[[InstanceInterface], Any]] = {
    "run": lambda instance: instance.run(["true"]),
    "mkdir": lambda instance: instance.mkdir(PurePath("/srv/new")),
    "file_push": lambda instance: instance.file_push(
        Path("/etc/hostname"), PurePath("/srv/file")
    ),
    "file_pull": lambda instance: instance.file_pull(
        PurePath("/etc/hostname"), Path("/nonexistent/file")
    ),
    "directory_push": lambda instance: instance.directory_push(
        Path("/nonexistent"), PurePath("/srv")
    ),
    "create_user": lambda instance: instance.create_user(),
    "restart": lambda instance: instance.restart(),
    "stop": lambda instance: instance.stop(),
}


def _names(incus: Incus) -> set[str]:
    return {record.name for record in incus.instances()}


def _says(instance: InstanceInterface, *command: str) -> str:
    return instance.run(
        list(command), run_as_root=True, text=True, check=True
    ).stdout.strip()


def test_start_and_stop(
    make: Callable[[], InstanceInterface], incus: Incus
) -> None:
    before = _names(incus)
    instance = make()
    assert not instance.is_started()
    assert not _names(incus) - before
    instance.start()
    assert instance.is_started()
    assert len(_names(incus) - before) == 1
    assert _says(instance, "systemctl", "is-system-running") == "running"
    instance.stop()
    assert not instance.is_started()
    assert not _names(incus) - before


def test_start_of_a_started_instance(
    instance: InstanceInterface, incus: Incus
) -> None:
    before = _names(incus)
    with pytest.raises(InstanceRunning):
        instance.start()
    assert not _names(incus) - before
    assert _says(instance, "echo", "alive") == "alive"


@pytest.mark.parametrize("call", _CALLS)
def test_nothing_works_before_start(
    make: Callable[[], InstanceInterface], call: str
) -> None:
    with pytest.raises(InstanceNotRunning):
        _CALLS[call](make())


@pytest.fixture(scope="module")
def stopped(
    implementation: Callable[[str], InstanceInterface], system: str
) -> InstanceInterface:
    """Return an instance that was used and stopped."""
    instance = implementation(system)
    instance.start()
    instance.create_user()
    instance.stop()
    return instance


@pytest.mark.parametrize("call", _CALLS)
def test_nothing_works_after_stop(
    stopped: InstanceInterface, call: str
) -> None:
    with pytest.raises(InstanceNotRunning):
        _CALLS[call](stopped)


def test_start_after_stop_gives_a_pristine_guest(
    make: Callable[[], InstanceInterface],
) -> None:
    instance = make()
    instance.start()
    machine = _says(instance, "cat", "/etc/machine-id")
    _says(instance, "touch", "/srv/trace")
    instance.create_user()
    instance.stop()
    instance.start()
    assert _says(instance, "ls", "-A", "/srv") == ""
    assert _says(instance, "cat", "/etc/machine-id") != machine
    user = instance.non_root_user
    assert user not in _says(instance, "cat", "/etc/passwd")
    uid = instance.create_user()
    assert _says(instance, "id", "-u", user) == str(uid)
    instance.stop()


def test_two_instances_share_nothing(
    make: Callable[[], InstanceInterface], instance: InstanceInterface
) -> None:
    other = make()
    other.start()
    _says(instance, "touch", "/srv/here")
    _says(other, "touch", "/srv/there")
    assert "there" not in _says(instance, "ls", "/srv").split()
    assert _says(other, "ls", "/srv") == "there"
    for path in ("/etc/hostname", "/etc/machine-id"):
        assert _says(instance, "cat", path) != _says(other, "cat", path)
    other.stop()
    assert _says(instance, "ls", "/srv/here") == "/srv/here"


def test_restart(make: Callable[[], InstanceInterface]) -> None:
    boot_id = "/proc/sys/kernel/random/boot_id"
    instance = make()
    instance.start()
    uid = instance.create_user()
    first = _says(instance, "cat", boot_id)
    _says(instance, "touch", "/srv/kept")
    instance.restart()
    assert instance.is_started()
    assert _says(instance, "systemctl", "is-system-running") == "running"
    assert _says(instance, "cat", boot_id) != first
    assert _says(instance, "ls", "/srv") == "kept"
    assert instance.run(["id", "-u"], text=True).stdout == f"{uid}\n"
    instance.stop()


@pytest.fixture
def powered_off(
    make: Callable[[], InstanceInterface], incus: Incus
) -> InstanceInterface:
    """Return an instance that has gone away by itself."""
    before = _names(incus)
    instance = make()
    instance.start()
    (name,) = _names(incus) - before
    instance.run(
        ["systemctl", "poweroff", "--no-block", "--force"], run_as_root=True
    )
    deadline = time.monotonic() + 30 * PACE
    while name in _names(incus):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return instance


def test_run_in_a_guest_that_powered_itself_off(
    powered_off: InstanceInterface,
) -> None:
    with pytest.raises(InstanceNotRunning):
        powered_off.run(["true"], run_as_root=True)


def test_clean_up_of_a_guest_that_powered_itself_off(
    powered_off: InstanceInterface,
) -> None:
    """Debusine stops what says that it is started, at the end of a task."""
    if powered_off.is_started():
        powered_off.stop()
    assert not powered_off.is_started()


def test_start_of_an_absent_image(
    implementation: Callable[[str], InstanceInterface], incus: Incus
) -> None:
    before = _names(incus)
    instance = implementation("artifact/999999999")
    with pytest.raises((ImageNotDownloadedError, InstanceNotRunning)):
        instance.start()
    assert not instance.is_started()
    assert not _names(incus) - before


def test_start_leaves_the_callers_input_alone(
    make: Callable[[], InstanceInterface],
) -> None:
    instance = make()
    with standard_input(b"the caller's"):
        instance.start()
        instance.stop()
        assert os.read(0, 100) == b"the caller's"


def test_stop_of_a_guest_that_does_not_listen(
    stubborn: Stubborn, incus: Incus
) -> None:
    left = stubborn.since + _STOP_LIMIT - time.monotonic()
    seconds = stubborn.stopped.result(timeout=max(left, 0))
    assert seconds < _STOP_LIMIT
    assert stubborn.name not in _names(incus)
