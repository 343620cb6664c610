# SPDX-License-Identifier: GPL-3.0-or-later
"""Make an instance that says whose it is, or leave nothing of it."""

import logging
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import InstanceRecord
from incus_testbed.instance import naming, removal
from incus_testbed.ownership import holdings
from incus_testbed.ownership.owner import Owner

log = logging.getLogger(__name__)

#: Keys of an instance's configuration: its owner, time of creation and purpose.
#: Garbage collection reads only the first.
OWNER_KEY = "user.incus-testbed.owner"
CREATED_KEY = "user.incus-testbed.created"
PURPOSE_KEY = "user.incus-testbed.purpose"
#: Identifies one creation, also among those of this process.
_LAUNCH_KEY = "user.incus-testbed.launch"

_NAME_TRIES = 10
#: Attempts, 0.1 s apart, to find the instance of a killed client.
_LATE_TRIES = 5
#: Seconds for a cluster to know again which members it has, and between two
#: attempts.  When one goes down, the others too seem to be offline for up to a
#: heartbeat, which is 10 s.
_CLUSTER_LIMIT = 30.0
_CLUSTER_PAUSE = 1.0


def owner_of(record: InstanceRecord) -> Owner | None:
    """Return the process that owns an instance; None if none does."""
    return Owner.parse(record.config.get(OWNER_KEY, ""))


class Creation:
    """The creation of one instance, which this process owns."""

    def __init__(self, incus: Incus, purpose: str) -> None:
        """Begin now."""
        self._incus = incus
        #: The keys that the instance has to get.
        self.keys: Mapping[str, str] = {
            OWNER_KEY: str(Owner.current()),
            CREATED_KEY: datetime.now(UTC).isoformat(timespec="seconds"),
            PURPOSE_KEY: purpose,
            _LAUNCH_KEY: os.urandom(8).hex(),
        }

    def by(self, create: Callable[[str], None], name: str | None) -> str:
        """Have ``create`` make and start it; return its name.

        Without ``name`` made-up ones are tried until one is free.  If
        ``create`` fails or is interrupted, nothing is left.

        :raises errors.AlreadyExists: the name is taken
        """
        for _ in range(_NAME_TRIES):
            tried = name or naming.make_up()
            holdings.note(holdings.Kind.INSTANCE, tried)
            try:
                _once_it_has_a_member(create, tried)
            except errors.TestbedError as error:
                # Any error may mean that the instance was created, but not
                # started.
                made = self._discard(tried, error)
                if made or name or not isinstance(error, errors.AlreadyExists):
                    raise
            except BaseException:
                self._discard(tried)
                raise
            else:
                return tried
        raise errors.AlreadyExists(
            f"{_NAME_TRIES} random instance names were all taken"
        )

    def _discard(
        self, name: str, error: errors.TestbedError | None = None
    ) -> bool:
        """Delete the instance after a failure; tell whether there was one.

        If the client was killed (no error, or TimedOut), the daemon goes on
        creating, so the instance may appear a moment later.  An instance of
        another launch with this name is left alone.  The log of the failed
        start is added to the error.
        """
        killed = error is None or isinstance(error, errors.TimedOut)
        for attempt in range(_LATE_TRIES if killed else 1):
            try:
                time.sleep(0.1 if attempt else 0)
                record = self._incus.instance(name)
                if record.config.get(_LAUNCH_KEY) != self.keys[_LAUNCH_KEY]:
                    break
                if error:
                    self._add_start_log(name, error)
                removal.delete(self._incus, name)
            except errors.NotFound:
                continue
            except (errors.DaemonDown, errors.Denied):
                return (
                    False  # the launch most likely failed for the same reason
                )
            except errors.TestbedError as problem:
                log.warning(
                    "%s may be left behind (%s); 'incus-testbed gc' removes"
                    " it once this process has ended",
                    name,
                    problem.brief,
                )
            return True
        holdings.forget(holdings.Kind.INSTANCE, name)
        return False

    def _add_start_log(self, name: str, error: errors.TestbedError) -> None:
        """Add LXC's own error messages, which Incus keeps in a log."""
        try:
            said = self._incus.start_log(name)
        except errors.TestbedError:
            return
        reasons = [line for line in said.splitlines() if " ERROR " in line]
        error.details = "\n".join([error.details, *reasons[:5]]).strip()


def _once_it_has_a_member(create: Callable[[str], None], name: str) -> None:
    """Have it made, also in a cluster of which a member went down just now."""
    deadline = time.monotonic() + _CLUSTER_LIMIT
    while True:
        try:
            return create(name)
        except errors.NoMember as error:
            if time.monotonic() > deadline:
                raise
            log.info("%s: %s; waiting", name, error.brief)
            time.sleep(_CLUSTER_PAUSE)
