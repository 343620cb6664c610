# SPDX-License-Identifier: GPL-3.0-or-later
"""One case of a target: refused or not, but in time and with a reason."""

import contextlib
import signal
from collections.abc import Iterator
from random import Random
from types import FrameType

from incus_testbed import errors
from incus_testbed.incus.exec import api
from tests.fuzz.targets import TARGETS

#: Seconds of processor time that a case may take.
LIMIT = 5.0


class Hang(BaseException):
    """A case took too long; no parser catches this."""


def attempt(name: str, number: int) -> bool:
    """Run a target's case of a number; tell whether the file was refused."""
    with _limited():
        try:
            TARGETS[name](Random(f"{name} {number}"))  # noqa: S311
        except (errors.TestbedError, api.Failure):
            return True
    return False


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    usual = signal.signal(signal.SIGPROF, _give_up)
    signal.setitimer(signal.ITIMER_PROF, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, usual)


def _give_up(_number: int, _frame: FrameType | None) -> None:
    raise Hang
