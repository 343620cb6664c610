# SPDX-License-Identifier: GPL-3.0-or-later
"""Learn from the daemon when and how a command has ended."""

import select

from .api import CHUNK, Failure, Lost, ask, feed, get, metadata, refusal
from .response import Response

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .address import Address
    from .streams import Interests

#: The largest exit status.
_LARGEST = 255
NONSENSE = "the answer of the Incus daemon makes no sense"


class Operation:
    """The wait for the daemon to say how a command has ended."""

    def __init__(
        self, address: "Address", target: str, query: str, limit: float
    ) -> None:
        """Ask when it ends."""
        self._address = address
        self._target = f"{target}{query}"
        self._limit = limit
        self._connection = ask(address, f"{target}/wait{query}", limit)
        self._connection.settimeout(0)
        self._response = Response()
        self._outcome: Any = None
        self._ended = False

    @property
    def finished(self) -> bool:
        """Whether the command has ended, or is lost sight of."""
        return self._ended

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
