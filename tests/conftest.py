# SPDX-License-Identifier: GPL-3.0-or-later
"""What all tests share: an Incus, and Debian systems to test with."""

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from _pytest.runner import runtestprotocol

from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus
from tests.support import daemon, images, kernel_limits
from tests.support.sandbox import Sandbox, sandbox
from tests.vm import guests

_VIRT = Path(__file__).resolve().parent.parent / "virt"
_DAEMON = pytest.StashKey[daemon.Daemon]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Know what the tests are to run in."""
    parser.addoption(
        "--vm",
        action="store_true",
        help="have virtual machines as guests; works in that of tests/vm",
    )


def pytest_configure() -> None:
    """Have SIGTERM end a run as Ctrl-C does: fixtures are torn down.

    What nohup or a shell's & has had ignored is what tests are about.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.hookimpl(hookwrapper=True)  # type: ignore[untyped-decorator]
def pytest_runtest_makereport() -> Iterator[None]:
    """In CI nothing is skipped: what a test needs is installed there."""
    outcome: Any = yield
    report = outcome.get_result()
    expected = hasattr(report, "wasxfail")
    if report.skipped and not expected and os.environ.get("CI"):
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr[2]}"


def pytest_runtest_protocol(
    item: pytest.Item, nextitem: pytest.Item | None
) -> bool:
    """Run a test once more if it failed because of Incus itself.

    One crash of Incus 6.0.4 was seen, in a test of Debusine's executor; all
    tests after it failed.  What a command prints gets lost now and then in
    incus exec, which Debusine's executor uses.
    """
    item.ihook.pytest_runtest_logstart(
        nodeid=item.nodeid, location=item.location
    )
    before = _crashes(item)
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    if any(report.failed for report in reports):
        crashes = _crashes(item)[len(before) :]
        if crashes:
            print(f"\nIncus has crashed in {item.nodeid}:", *crashes, sep="\n")
            item.config.stash[_DAEMON].wait_until_whole()
        if crashes or "[upstream" in item.name:
            print(f"\nonce more: {item.nodeid}")
            item._initrequest()  # type: ignore[attr-defined]
            reports = runtestprotocol(item, log=False, nextitem=nextitem)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(
        nodeid=item.nodeid, location=item.location
    )
    return True


def _crashes(item: pytest.Item) -> list[str]:
    """Return what the tests' Incus said each time it crashed."""
    incus = item.config.stash.get(_DAEMON, None)
    return incus.crashes() if incus else []


@pytest.fixture(scope="session")
def incus_daemon(
    pytestconfig: pytest.Config,
) -> Iterator[daemon.Daemon]:
    """Give an Incus that answers, and aim this process and its children.

    Where there can be none the test is skipped.
    """
    with contextlib.ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        try:
            incus = stack.enter_context(daemon.running())
        except daemon.DaemonError as error:
            pytest.skip(str(error))
        for name, value in incus.environment.items():
            patch.setenv(name, value)
        pytestconfig.stash[_DAEMON] = incus
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
def incus(incus_environment: object) -> Incus:
    """Return a client of the Incus under test."""
    del incus_environment
    return Incus()


@pytest.fixture(scope="module")
def raised_kernel_limits() -> Iterator[None]:
    """Have the kernel let many guests run at once."""
    with kernel_limits.for_many():
        yield


@pytest.fixture(scope="session")
def system_tarball() -> Callable[..., Path]:
    """Give a maker of system tarballs: of a suite, with packages."""

    def make(suite: str, *packages: str) -> Path:
        return images.build(suite, packages)

    return make


@pytest.fixture(scope="session")
def image(
    incus: Incus, system_tarball: Callable[..., Path]
) -> Iterator[Callable[..., str]]:
    """Return what imports a suite with packages, once, and gives its alias."""
    store = Store(incus)
    imported: dict[tuple[str, ...], str] = {}

    def import_(suite: str, *packages: str) -> str:
        key = (suite, *packages)
        if key not in imported:
            # Incus 7 takes 64 characters: no room for all the packages.
            alias = f"test/{suite}-{len(imported)}"
            with system_tarball(suite, *packages).open("rb") as source:
                store.add(source, alias)
            imported[key] = alias
        return imported[key]

    yield import_
    for alias in imported.values():
        store.remove(alias)


@pytest.fixture(scope="session")
def bookworm(image: Callable[..., str]) -> str:
    """Return the alias of a plain bookworm."""
    return image("bookworm")


@pytest.fixture(scope="session")
def machine_image(incus: Incus) -> Iterator[Callable[[str], str]]:
    """Return what imports a disk of tests/vm, and gives its alias.

    ``agent`` has Incus' agent, and ``plain`` has not.
    """
    if not guests.are_here():
        pytest.fail("there is no disk to start. Run: make check-vm")
    imported = set()

    def import_(name: str) -> str:
        alias = guests.import_disk(incus, name)
        imported.add(alias)
        return alias

    yield import_
    for alias in imported:
        Store(incus).remove(alias)


@pytest.fixture(scope="session")
def system(request: pytest.FixtureRequest) -> str:
    """Return the alias of a plain Debian of the kind that is asked for."""
    if request.config.getoption("--vm"):
        alias: str = request.getfixturevalue("machine_image")("agent")
    else:
        alias = request.getfixturevalue("bookworm")
    return alias


@pytest.fixture(scope="session")
def bookworm_tarball(system_tarball: Callable[..., Path]) -> Path:
    """Return a plain bookworm before it is imported."""
    return system_tarball("bookworm")
