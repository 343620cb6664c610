# SPDX-License-Identifier: GPL-3.0-or-later
"""The daemon's socket and the incus command give the same answers."""

import signal
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NoReturn

import pytest

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance
from tests.support.indirect import by_command

_LIMIT = 120


@pytest.fixture(scope="module")
def box(incus: Incus, bookworm: str) -> Iterator[Instance]:
    with Instance.launch(incus, bookworm, purpose="test") as launched:
        launched.wait_ready()
        yield launched


QUESTIONS: dict[str, Callable[[Incus, str, str], Any]] = {
    "server": lambda incus, *_: incus.server()["environment"]["project"],
    "resources": lambda incus, *_: incus.resources()["cpu"]["total"],
    "projects": lambda incus, *_: incus.projects(),
    "project": lambda incus, *_: incus.project_config(),
    "networks": lambda incus, *_: [n["name"] for n in incus.networks()],
    "pools": lambda incus, *_: [p["name"] for p in incus.pools()],
    "space": lambda incus, *_: (
        incus.pool_space(incus.pools()[0]["name"]) or [None]
    )[0],
    "profile": lambda incus, *_: incus.profile("debusine")["devices"],
    "images": lambda incus, *_: {image.fingerprint for image in incus.images()},
    "alias": lambda incus, alias, _: incus.image(alias).fingerprint,
    "fingerprint": lambda incus, alias, _: (
        incus.image(incus.image(alias).fingerprint[:20]).aliases
    ),
    "instances": lambda incus, *_: {each.name for each in incus.instances()},
    "instance": lambda incus, _, name: incus.instance(name),
    "busy": lambda incus, *_: incus.busy_instances(),
    "command": lambda incus, _, name: (
        incus.execute(
            name,
            ["sh", "-c", "cat; echo e >&2; exit 7"],
            stdin=b"i",
            timeout=60,
        ).stdout
    ),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_same_answer(
    incus: Incus, bookworm: str, box: Instance, question: str
) -> None:
    ask = QUESTIONS[question]
    here = ask(incus, bookworm, box.name)
    with by_command():
        assert ask(incus, bookworm, box.name) == here


@pytest.mark.parametrize(
    "ask",
    [
        lambda incus: incus.image("no/such"),
        lambda incus: incus.image("ffffffffffffffff"),
        lambda incus: incus.instance("no-such"),
        lambda incus: incus.profile("no such"),
        lambda incus: incus.pool_space("no-such"),
        lambda incus: incus.execute("no-such", ["true"], timeout=60),
        lambda _: Incus(project="no-such").instance("a"),
        lambda _: Incus(project="no-such").project_config(),
    ],
)
def test_what_is_absent(incus: Incus, ask: Callable[[Incus], Any]) -> None:
    with pytest.raises(errors.NotFound):
        ask(incus)
    with by_command(), pytest.raises(errors.NotFound):
        ask(incus)


def _wait_until_ended(box: Instance, command: str) -> None:
    look = ["sh", "-c", "cat /proc/[0-9]*/cmdline | tr '\\0' ' '"]
    deadline = time.monotonic() + _LIMIT
    while True:
        seen = box.guest.run(look, capture_output=True, text=True).stdout
        if f"{command} " not in seen:
            break
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_time_limit_ends_the_command(incus: Incus, box: Instance) -> None:
    with pytest.raises(errors.TimedOut):
        incus.execute(box.name, ["sleep", "7777"], timeout=1)
    _wait_until_ended(box, "sleep 7777")


class _Stop(BaseException):
    """What a signal raises."""


def test_interruption_ends_the_command(incus: Incus, box: Instance) -> None:
    def stop(number: int, frame: FrameType | None) -> NoReturn:
        del number, frame
        raise _Stop

    before = signal.signal(signal.SIGALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1)
        with pytest.raises(_Stop):
            incus.execute(box.name, ["sleep", "7778"], timeout=60)
    finally:
        signal.signal(signal.SIGALRM, before)
    _wait_until_ended(box, "sleep 7778")
