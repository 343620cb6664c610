# SPDX-License-Identifier: GPL-3.0-or-later
"""Locks between processes of all machines that use one Incus.

A lock is a profile: the server makes a name once, and a user of a project may
make profiles in it.  The holder changes its lock every few seconds.  A waiter
that has seen no change for PATIENCE seconds takes the lock over.  It counts
them by its own clock, because another machine's clock may be wrong.

A lock only saves the work of doing the same twice.  Nothing breaks when two
processes hold it, as when a holder was suspended, and goes on later.
"""

import contextlib
import hashlib
import itertools
import logging
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.ownership.owner import Owner, judge

log = logging.getLogger(__name__)

#: Seconds without a change after which a lock is taken over.
PATIENCE = 30.0
#: Seconds between two changes.
PERIOD = 5.0
#: Seconds between two looks at a lock that another process holds.
_LOOK = 1.0
_POLL = 0.1
#: Seconds in which everybody who takes over a lock at the same time has written
#: to it.  The last one has it.
_SETTLING = 2.0

_PREFIX = "incus-testbed-lock-"
_OWNER = "user.incus-testbed.owner"
_COUNT = "user.incus-testbed.count"


@contextlib.contextmanager
def held(
    incus: Incus,
    name: str,
    *,
    timeout: float,
    is_needless: Callable[[], bool],
    while_waiting: Callable[[], None] | None = None,
) -> Iterator[None]:
    """Hold the lock of a name among all who use this server's project.

    While another process holds it, ``while_waiting`` is called several times a
    second.  An exception that it raises ends the wait.  This goes on without
    the lock if ``is_needless`` says after a wait that nothing is left to do, or
    if this user may not make profiles.

    :raises errors.TimedOut: others held it for ``timeout`` seconds
    """
    lock = _Lock(
        incus, name, time.monotonic() + timeout, is_needless, while_waiting
    )
    try:
        is_mine = lock.acquire()
    except errors.Denied as error:
        log.info("other machines may do the same work: %s", error.brief)
        is_mine = False
    if not is_mine:
        yield
        return
    ended = threading.Event()
    # A thread, since what holds a lock can be busy for minutes in one call.
    renewal = threading.Thread(target=lock.renew, args=(ended,), daemon=True)
    renewal.start()
    try:
        yield
    finally:
        ended.set()
        renewal.join(PERIOD)
        lock.release()


@dataclass(frozen=True)
class _Lock:
    """The lock of a name, and how long and for what a process waits for it."""

    incus: Incus
    name: str
    deadline: float
    is_needless: Callable[[], bool]
    while_waiting: Callable[[], None] | None

    @property
    def profile(self) -> str:
        """The name of the profile."""
        return _PREFIX + hashlib.sha256(self.name.encode()).hexdigest()[:32]

    def acquire(self) -> bool:
        """Get the lock; return False if it is not needed any more.

        :raises errors.Denied: this user may not make profiles
        """
        if self._make():
            return True
        log.warning(
            "another process, perhaps of another machine, works on %s: waiting"
            " for it",
            self.name,
        )
        while not self._outlast():
            if self.is_needless():
                return False
            if self._make():
                return True
        return True

    def renew(self, ended: threading.Event) -> None:
        """Change the lock again and again, until the end or its removal."""
        for count in itertools.count(1):
            if ended.wait(PERIOD):
                return
            try:
                self.incus.set_profile_keys(self.profile, {_COUNT: f"{count}"})
            except errors.NotFound:
                return
            except errors.TestbedError as error:
                log.debug("%s is not renewed: %s", self.profile, error.brief)

    def release(self) -> None:
        """Remove the lock, unless another process has taken it over."""
        try:
            if _owner(self._config()) == Owner.current():
                remove(self.incus, self.profile)
        except errors.TestbedError as error:
            # Others take it over, and gc removes it.
            log.debug("%s is not removed: %s", self.profile, error.brief)

    def _make(self) -> bool:
        """Make the profile; return False if it is there."""
        try:
            self.incus.create_profile(
                self.profile,
                config={_OWNER: str(Owner.current()), _COUNT: "0"},
                description=f"A process works on {self.name}",
            )
        except errors.AlreadyExists:
            return False
        return True

    def _outlast(self) -> bool:
        """Wait for the lock's end; return whether it was taken over.

        :raises errors.TimedOut: the deadline was reached
        """
        seen: Mapping[str, str] = {}
        since = time.monotonic()
        while True:
            try:
                config = self._config()
            except errors.NotFound:
                return False
            if config != seen:
                seen, since = config, time.monotonic()
            is_left = time.monotonic() - since > PATIENCE
            if (is_left or self._is_free(config)) and self._take_over():
                return True
            if time.monotonic() > self.deadline:
                raise errors.TimedOut(
                    "Another process, perhaps of another machine, still works"
                    f" on {self.name}",
                    resolution="'incus-testbed status' says which machines hold"
                    " locks.",
                )
            self._pause(_LOOK)

    def _is_free(self, config: Mapping[str, str]) -> bool:
        """Tell whether the holder is this process, or known to have ended."""
        owner = _owner(config)
        is_gone = judge(self.incus.is_only_here)
        return owner is not None and (
            owner == Owner.current() or is_gone(owner)
        )

    def _take_over(self) -> bool:
        """Put this process in the holder's place; return whether that worked.

        It does not if another process does the same, and is later.
        """
        log.info("%s was left: taking it over", self.profile)
        mine = str(Owner.current())
        try:
            self.incus.set_profile_keys(self.profile, {_OWNER: mine})
            self._pause(_SETTLING)
            return self._config().get(_OWNER) == mine
        except (errors.NotFound, errors.CommandFailed):
            # Incus refuses a change that was overtaken by another.
            return False

    def _config(self) -> Mapping[str, str]:
        config: Mapping[str, str] = self.incus.profile(self.profile)["config"]
        return config

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.while_waiting:
                self.while_waiting()
            time.sleep(_POLL)


def owners(incus: Incus) -> dict[str, Owner]:
    """Return the holders of the project's locks, by the profiles' names."""
    found = {}
    for name in incus.profiles():
        if re.fullmatch(rf"{_PREFIX}[0-9a-f]{{32}}", name):
            with contextlib.suppress(errors.NotFound):
                if owner := _owner(incus.profile(name)["config"]):
                    found[name] = owner
    return found


def remove(incus: Incus, name: str) -> None:
    """Remove a lock by the name of its profile; no error if it is gone."""
    with contextlib.suppress(errors.NotFound):
        incus.delete_profile(name)


def _owner(config: Mapping[str, str]) -> Owner | None:
    return Owner.parse(config.get(_OWNER, ""))
