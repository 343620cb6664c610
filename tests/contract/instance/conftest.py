# SPDX-License-Identifier: GPL-3.0-or-later
"""Instances of either implementation, in an Incus of their own."""

import contextlib
import importlib
import secrets
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePath
from types import FrameType

import pytest
from debusine.tasks.executors.base import InstanceInterface

from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance

from . import upstream
from .guest import Guest
from .pace import PACE

#: The modules whose class IncusInstance is asked.
_IMPLEMENTATIONS = {
    "upstream": "debusine.tasks.executors.incus",
    "ours": "debusine_incus.instance",
}

#: Seconds after which a call counts as hanging.
_LIMIT = 120 * PACE


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect of upstream's implementation what is known of it.

    Versions that nobody has looked at yet may have come to do better, or
    worse.
    """
    known = upstream.is_known()
    for item in items:
        if difference := upstream.difference(item.name):
            item.add_marker(
                pytest.mark.xfail(
                    strict=known and not difference.by_chance,
                    reason=difference.instead,
                )
            )
        elif not known and "[upstream" in item.name:
            item.add_marker(
                pytest.mark.xfail(
                    strict=False, reason="not looked at in this version"
                )
            )


@pytest.fixture(scope="session", params=_IMPLEMENTATIONS)
def implementation(
    request: pytest.FixtureRequest,
) -> Callable[[str], InstanceInterface]:
    """Return what makes an instance of an image's alias."""
    module = importlib.import_module(_IMPLEMENTATIONS[request.param])
    made: Callable[[str], InstanceInterface] = module.IncusInstance
    return made


@pytest.fixture(autouse=True)
def _limit() -> Iterator[None]:
    """Have a test that hangs fail."""

    def give_up(number: int, frame: FrameType | None) -> None:
        del number, frame
        pytest.fail(f"still not done after {_LIMIT} s")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.alarm(_LIMIT)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def _removed_at_the_end(incus: Incus) -> Iterator[None]:
    """Remove instances that are there afterwards and were not before."""
    before = {record.name for record in incus.instances()}
    yield
    for record in incus.instances():
        if record.name not in before:
            Instance(incus, record.name).delete()  # or it goes by itself


@contextlib.contextmanager
def _started(
    implementation: Callable[[str], InstanceInterface],
    incus: Incus,
    image: str,
) -> Iterator[tuple[InstanceInterface, str]]:
    """Give an instance with its name, which the interface doesn't tell."""
    with _removed_at_the_end(incus):
        before = {record.name for record in incus.instances()}
        instance = implementation(image)
        instance.start()
        (name,) = {record.name for record in incus.instances()} - before
        yield instance, name


@dataclass(frozen=True)
class Stubborn:
    """A guest that does not shut down when it is asked to.

    Stopping began at ``since`` (time.monotonic); ``stopped`` is the seconds
    that it took.
    """

    name: str
    since: float
    stopped: "Future[float]"


@pytest.fixture(scope="session")
def stubborn(
    implementation: Callable[[str], InstanceInterface],
    incus: Incus,
    system: str,
) -> Iterator[Stubborn]:
    """Give a guest that is being stopped beside the other tests.

    It takes as long as they do.
    """
    with (
        ThreadPoolExecutor(1) as pool,
        _started(implementation, incus, system) as (instance, name),
    ):
        Guest(incus, name).ask("systemctl mask --runtime halt.target")
        since = time.monotonic()

        def stop() -> float:
            instance.stop()
            return time.monotonic() - since

        yield Stubborn(name, since, pool.submit(stop))


@pytest.fixture(scope="session")
def _shared(
    implementation: Callable[[str], InstanceInterface],
    incus: Incus,
    system: str,
    request: pytest.FixtureRequest,
) -> Iterator[tuple[InstanceInterface, Guest]]:
    if not request.config.getoption("--vm"):  # where one at a time is enough
        request.getfixturevalue("stubborn")  # begun as early as can be
    with _started(implementation, incus, system) as (instance, name):
        yield instance, Guest(incus, name)


@pytest.fixture
def instance(_shared: tuple[InstanceInterface, Guest]) -> InstanceInterface:
    """Return a running instance that all tests share."""
    return _shared[0]


@pytest.fixture
def guest(_shared: tuple[InstanceInterface, Guest]) -> Guest:
    """Return the other way into that instance."""
    return _shared[1]


@pytest.fixture
def make(
    implementation: Callable[[str], InstanceInterface],
    incus: Incus,
    system: str,
) -> Iterator[Callable[[], InstanceInterface]]:
    """Return what makes instances, not started, of the test's own."""
    with _removed_at_the_end(incus):
        yield lambda: implementation(system)


@pytest.fixture
def folder(guest: Guest) -> PurePath:
    """Return an empty directory in the shared instance, open to all."""
    script = "made=$(mktemp -d /srv/test.XXXXXX); chmod 755 $made; echo $made"
    return PurePath(guest.ask(script).strip())


@pytest.fixture
def mark(guest: Guest) -> Iterator[str]:
    """Return a time to sleep, in seconds, by which a process is known.

    Those that are left at the end are killed.
    """
    seconds = str(secrets.randbelow(10**8) + 10**8)
    yield seconds
    guest.kill(guest.pids(seconds))
