# SPDX-License-Identifier: GPL-3.0-or-later
"""Learn from the daemon when and how a command has ended."""

import select
import time

from .api import (
    CHUNK,
    Failure,
    Lost,
    Refused,
    ask,
    feed,
    get,
    metadata,
    quoted,
    refusal,
)
from .response import Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .address import Address
    from .streams import Interests

#: The largest exit status.
_LARGEST = 255
NONSENSE = "the answer of the Incus daemon makes no sense"

#: Seconds that a member has to answer again, and those of one look: Incus 6.0
#: tries for 20 s to reach a member that has gone.  Nothing else is done
#: meanwhile.
_PATIENCE, _LOOK_LIMIT = 20.0, 25.0

#: Where a command is if there is no cluster.
_NOWHERE = "none"
#: What the daemon calls a command's websockets.
_STREAMS = ("control", "0", "1", "2")


def began(operation: "Any") -> "tuple[str, list[str], bool]":
    """Return what the daemon says of a command that it begins.

    That is the path of the operation, the secrets of its websockets, and
    whether it is on a member of a cluster.

    :raises Lost: the daemon did not say them
    """
    try:
        fds = operation["metadata"]["fds"]
        secrets = [quoted(fds[name]) for name in _STREAMS]
        path = f"/1.0/operations/{quoted(operation['id'])}"
        where = operation.get("location", _NOWHERE)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise Lost(NONSENSE) from None
    return path, secrets, where != _NOWHERE


def named(begun: "Any") -> str:
    """Return the word of a URL for an operation that the daemon begins.

    :raises Lost: the daemon did not say it
    """
    try:
        return quoted(begun["id"])
    except (KeyError, TypeError):
        raise Lost(NONSENSE) from None


def check(ended: "Any") -> None:
    """Check what the daemon says of the end of an operation.

    :raises Refused: it has failed
    :raises Lost: the daemon did not say how it ended
    """
    try:
        said = ended["err"]
    except (KeyError, TypeError):
        raise Lost(NONSENSE) from None
    if said:
        raise refusal(str(said))


class Operation:
    """The wait for the daemon to say how a command has ended."""

    def __init__(
        self,
        address: "Address",
        target: str,
        query: str,
        limit: float,
        *,
        on_member: bool = False,
    ) -> None:
        """Ask when it ends; ``on_member``: it is on a member of a cluster."""
        self._address = address
        self._target = f"{target}{query}"
        self._limit = limit
        self._on_member = on_member
        self._silent_since: float | None = None
        self._connection = ask(address, f"{target}/wait{query}", limit)
        self._connection.settimeout(0)
        self._response = Response()
        self._outcome: Any = None
        self._ended = False

    @property
    def finished(self) -> bool:
        """Whether the command has ended, or is lost sight of."""
        return self._ended

    @property
    def in_doubt(self) -> bool:
        """Whether the last look has failed."""
        return self._silent_since is not None

    def look(self) -> None:
        """Find out whether the member that has the command still answers.

        The daemon that is asked keeps its connections to another member, and
        ours, open for minutes after that has gone.

        :raises Failure: it has not answered for some time
        """
        is_known = self._ended and not isinstance(self._outcome, Failure)
        if not self._on_member or is_known:
            return
        begun = self._silent_since or time.monotonic()
        try:
            get(self._address, self._target, min(self._limit, _LOOK_LIMIT))
        except Refused as problem:
            if time.monotonic() - begun >= _PATIENCE:
                if "not found" in str(problem):
                    message = "the Incus daemon has left the command"
                    raise Lost(message) from None
                # Never NotStarted: the command may have run.
                raise Refused(str(problem)) from None
        except Failure:
            # The daemon that is asked is slow, or has gone, which shows anyway.
            pass
        else:
            self._silent_since = None
            return
        self._silent_since = begun

    def interests(self) -> "Interests":
        """Return what to wait for."""
        if not self.finished:
            yield self._connection.fileno(), select.POLLIN, self._receive

    def _receive(self) -> None:
        try:
            data = self._connection.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        try:
            feed(self._response, data)
            if not self._response.whole:
                return
            self._outcome = metadata(self._response.content)
        except Failure as problem:
            self._outcome = self._known(problem)
        self._ended = True

    def _known(self, problem: Failure) -> "Any":
        """Return the operation as the daemon knows it now, or the problem.

        For a status of 126 or 127 the operation itself has failed; then the
        answer is an error without a status.  For some seconds the daemon
        still knows better.
        """
        try:
            return get(self._address, self._target, self._limit)
        except Failure:
            return problem

    def close(self) -> None:
        """Ask no more."""
        self._connection.close()

    def result(self) -> tuple[int, str]:
        """Return the command's status and what the daemon says of it.

        :raises Failure: it did not run, or the daemon does not know its end
        """
        if isinstance(self._outcome, Failure):
            raise self._outcome
        operation = self._outcome or {}
        try:
            said = str(operation.get("err") or "")
            status = (operation.get("metadata") or {}).get("return", -1)
            if 0 <= status <= _LARGEST:
                return int(status), said
        except (AttributeError, TypeError):
            raise Lost(NONSENSE) from None
        raise refusal(said or "the command's end is lost")
