# SPDX-License-Identifier: GPL-3.0-or-later
"""Members of a cluster that do not answer: name them, and do not wait for them.

The incus command waits without end for what a member does that goes down
meanwhile: the others do not hear of its end, and Incus itself takes the member
for offline after 20 s (cluster.offline_threshold).
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any, Protocol

from incus_testbed import errors
from incus_testbed.incus import phrases, records
from incus_testbed.incus.exec.api import quoted

log = logging.getLogger(__name__)

#: How many looks in a row have to find nothing: between two operations of one
#: command there is none, and the looks are some seconds apart.
_LOOKS = 3
#: What an error has in place of the words of Incus.
_SILENT = "nothing is heard of it any more"


class Get(Protocol):
    """Ask the server, as Transport.get() does."""

    def __call__(self, path: str, *, recursion: int = 0) -> Any:
        """Return its answer."""


def named(failure: errors.TestbedError, ask: Get) -> errors.TestbedError:
    """Return an error that names the members it is about, if they are known.

    Incus does not say which one it is that was needed, and takes it for online
    for some seconds more.  Then each is asked.
    """
    try:
        here = ask("")["environment"]["server_name"]
        others = _others(ask, here)
        silent = (each for each in others if not _answers(ask, each))
        names = _offline(others) or [each.name for each in islice(silent, 1)]
    except errors.TestbedError:
        return failure
    return _naming(names, failure)


def _others(ask: Get, here: str) -> list[records.Member]:
    """Return all members but the one that is asked.

    For some seconds after another has gone, it takes itself for offline, too.
    """
    found = map(records.member, ask("cluster/members", recursion=1))
    return [member for member in found if member.name != here]


def _offline(members: Iterable[records.Member]) -> list[str]:
    return [member.name for member in members if member.is_offline]


def _answers(ask: Get, member: records.Member) -> bool:
    """Ask a member; one that has gone takes Incus up to ten seconds."""
    try:
        ask(f"?target={quoted(member.name)}")
    except (errors.DaemonDown, errors.TimedOut):
        return False
    return True


def _naming(
    names: Sequence[str], failure: errors.TestbedError
) -> errors.TestbedError:
    if not names:
        return failure
    return errors.MemberDown(
        f"{' and '.join(names)} of the cluster"
        f" {'do' if names[1:] else 'does'} not answer",
        details=failure.details,
        resolution=failure.resolution,
    )


class Watch:
    """Watch over a command that makes, changes, fills or removes an instance.

    It is a guard.Doubt.  A server that is not in a cluster is asked nothing.
    """

    def __init__(
        self,
        ask: Get,
        environment: Callable[[], Mapping[str, Any]],
        name: str,
        *,
        asked: str,
        remote: str,
    ) -> None:
        """Watch over ``asked``, a command that is about the instance ``name``.

        ``environment`` returns what the server says of itself; ``remote`` is
        the server's name if it is not on this machine.
        """
        self._ask = ask
        self._environment = environment
        self._name = name
        self._failure = phrases.AWAY.error(_SILENT, asked, remote)
        self._found_nothing = 0

    def __call__(self) -> errors.TestbedError | None:
        """Return the error that a member went down with the work, if so."""
        try:
            names = self._lost()
        except errors.TestbedError as problem:
            log.debug("the members are not known: %s", problem.brief)
            names = []
        self._found_nothing = self._found_nothing + 1 if names else 0
        if self._found_nothing < _LOOKS:
            return None
        return _naming(names, self._failure)

    def _lost(self) -> list[str]:
        """Return members that do not answer, if no other has the work."""
        server = self._environment()
        if not server.get("server_clustered"):
            return []
        names = _offline(_others(self._ask, server["server_name"]))
        return [] if names and self._is_seen() else names

    def _is_seen(self) -> bool:
        """Tell whether a member that answers has the instance or the work."""
        operations = self._ask("operations", recursion=1)
        if self._name in records.at_work_on(operations):
            return True
        try:
            self._ask(f"instances/{quoted(self._name)}")
        except (errors.MemberDown, errors.NotFound):
            return False
        return True
