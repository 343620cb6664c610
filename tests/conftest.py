# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests share: an Incus, and Debian systems to test with."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import daemon, images
from tests.sandbox import Sandbox, sandbox

_VIRT = Path(__file__).resolve().parent.parent / "virt"


def pytest_configure() -> None:
    """Have SIGTERM end a run as Ctrl-C does: fixtures are torn down."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def incus_daemon() -> Iterator[daemon.Daemon]:
    """Give an Incus that answers, and aim this process and its children.

    Where there can be none the test is skipped; in CI it fails.
    """
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        try:
            incus = stack.enter_context(daemon.running())
        except daemon.DaemonError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
        for name, value in incus.environment.items():
            patch.setenv(name, value)
        yield incus


@pytest.fixture(scope="session")
def incus_environment(incus_daemon: daemon.Daemon) -> Iterator[Sandbox]:
    """Give a project of this run's own, set up, as the environment's default.

    ``incus``, ``incus-testbed`` and the virt server use it without being
    told, and are on PATH.
    """
    del incus_daemon
    with (
        sandbox(str(os.getpid())) as mine,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("INCUS_PROJECT", mine.project)
        patch.setenv("PATH", str(_VIRT), prepend=os.pathsep)
        patch.setenv("PYTHONPATH", str(_VIRT), prepend=os.pathsep)
        yield mine


@pytest.fixture(scope="session")
def system_tarball() -> Callable[..., Path]:
    """Give a maker of system tarballs: of a suite, with packages."""

    def make(suite: str, *packages: str) -> Path:
        return images.build(suite, packages)

    return make
