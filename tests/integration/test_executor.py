# SPDX-License-Identifier: GPL-3.0-or-later
"""Debusine's executors on a real Incus, as its tasks use them."""

import logging
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from debusine.client.debusine import Debusine
from debusine.tasks.executors import ExecutorStatistics, executor_class
from debusine.tasks.models import BackendType

import debusine_incus.register
from debusine_incus.executor import IncusExecutor, IncusLXCExecutor
from incus_testbed.cleanup import garbage
from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus
from tests.support import debusine_server
from tests.support.debusine_server import TOKEN
from tests.support.sandbox import Sandbox

from .conftest import Cli

_ID = 31


@pytest.fixture(scope="module")
def executor(
    incus: Incus, bookworm_tarball: Path
) -> Iterator[IncusLXCExecutor]:
    """Return the executor of a bookworm that a server has."""
    with debusine_server.running() as server:
        server.add_artifact(_ID, bookworm_tarball)
        api = Debusine(
            server.api_url, TOKEN, logger=logging.getLogger("debusine")
        )
        yield IncusLXCExecutor(api, _ID)
    garbage.relinquish(incus)
    Store(incus).remove(f"artifact/{_ID}")


@pytest.fixture
def reasons(
    incus: Incus, caplog: pytest.LogCaptureFixture
) -> Callable[[], list[str]]:
    """Return what asks whether containers work, and returns why not."""
    del incus
    caplog.set_level(logging.INFO)

    def ask() -> list[str]:
        caplog.clear()
        # What a check found that took long, on a busy machine.
        IncusLXCExecutor._good_until = 0
        available = IncusLXCExecutor.available()
        said = [
            message.partition("not available: ")[2]
            for message in caplog.messages
            if "not available" in message
        ]
        assert available == (not said)
        return said

    return ask


def test_debusine_finds_the_executors() -> None:
    registered = debusine_incus.register
    lxc = executor_class(BackendType.INCUS_LXC)
    vm = executor_class(BackendType.INCUS_VM)
    assert (lxc, vm) == (
        registered.IncusLXCExecutor,
        registered.IncusVMExecutor,
    )
    assert (lxc.backend_name, vm.backend_name) == ("incus-lxc", "incus-vm")


def test_available(reasons: Callable[[], list[str]]) -> None:
    assert reasons() == []


def test_unavailable_without_a_daemon(
    reasons: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INCUS_SOCKET", "/nonexistent/socket")
    (reason,) = reasons()
    assert "Incus server" in reason


def test_unavailable_where_the_daemon_does_not_answer(
    reasons: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.setattr("debusine_incus.executor._CHECK_LIMIT", 1)
    # As on a slow machine.
    monkeypatch.setattr(
        "incus_testbed.instance.patience.factor", lambda *_, **__: 2
    )
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "s"))
        silent.listen()
        monkeypatch.setenv("INCUS_SOCKET", str(tmp_path / "s"))
        before = time.monotonic()
        assert reasons() == ["no answer within 2 s"]
        assert time.monotonic() - before < 60


def test_unavailable_without_the_virt_server(
    reasons: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "/usr/bin:/usr/sbin")
    assert reasons() == ["autopkgtest-virt-incus-testbed is not on PATH"]


def test_unavailable_without_incus(
    reasons: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    program = shutil.which("autopkgtest-virt-incus-testbed")
    assert program
    monkeypatch.setenv("PATH", f"{tmp_path}:{Path(program).parent}")
    assert any("programs" in reason for reason in reasons())


def test_unavailable_without_the_profile(
    reasons: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    bare = Sandbox.of(f"bare{os.getpid()}")
    bare.create_project()
    try:
        monkeypatch.setenv("INCUS_PROJECT", bare.project)
        assert "profile debusine: it does not exist" in reasons()
    finally:
        bare.remove()


def test_autopkgtest_is_told_the_alias_alone(
    executor: IncusLXCExecutor,
) -> None:
    server = executor.autopkgtest_virt_server()
    assert shutil.which(f"autopkgtest-virt-{server}") or shutil.which(server)
    assert executor.autopkgtest_virt_args() == [f"artifact/{_ID}"]


def test_a_task_from_image_to_end(
    incus: Incus, executor: IncusLXCExecutor
) -> None:
    assert executor.download_image() == executor.image_name()
    assert executor.image_name() == f"artifact/{_ID}"
    assert executor.system_image.data["codename"] == "bookworm"
    before = {record.name for record in incus.instances()}
    instance = executor.create()
    assert not instance.is_started()
    instance.start()
    try:
        release = instance.run(["cat", "/etc/debian_version"], text=True)
        assert release.stdout.startswith("12.")
        executor.clean_up_image(_ID)  # in use: it stays
        used = _known(lambda: executor.get_statistics(instance))
        assert used.available_memory
    finally:
        instance.stop()
    assert {record.name for record in incus.instances()} == before
    assert Store(incus).find(f"artifact/{_ID}")


def test_statistics_of_what_a_virt_server_launched(
    executor: IncusLXCExecutor, cli: Cli
) -> None:
    executor.download_image()
    child = cli.start(
        *("run", executor.image_name(), "--", "cat"), stdin=subprocess.PIPE
    )
    with child:
        assert _known(lambda: executor.get_statistics(None)).available_memory
        child.communicate("", timeout=60)
    assert child.returncode == 0


def _known(ask: Callable[[], ExecutorStatistics]) -> ExecutorStatistics:
    """Return statistics once there are any."""
    deadline = time.monotonic() + 60
    while (statistics := ask()).available_memory is None:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    return statistics


def test_executors_without_images_to_import_are_not_offered() -> None:
    vm = executor_class(BackendType.INCUS_VM)
    assert issubclass(vm, IncusExecutor)
    assert not vm.available()
