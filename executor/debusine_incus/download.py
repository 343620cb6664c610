# SPDX-License-Identifier: GPL-3.0-or-later
"""A file of a Debusine artifact, read as it comes over the network."""

import logging
import re
import time
from http import HTTPStatus
from types import TracebackType
from typing import Self

import requests
from urllib3.exceptions import HTTPError

from incus_testbed import errors

log = logging.getLogger(__name__)

#: Seconds for connecting, and for waiting for some more bytes.
_LIMITS = (15.0, 60.0)
#: Seconds to wait before each further attempt.
_PAUSES = (1.0, 4.0, 15.0)

#: Worth another attempt, beside 500 and above.
_TRANSIENT = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_FAILURES = (requests.RequestException, HTTPError, OSError)


class ServerFailed(errors.TestbedError):
    """Debusine's server can't be reached, or refuses what it was asked."""


class Download:
    """The bytes of a file; nothing is asked for before the first ``read``.

    A connection that breaks is made anew, and goes on where it was.
    """

    def __init__(self, url: str, *, size: int, token: str | None) -> None:
        """Have size bytes to read from url, authorised by a token."""
        self._url = url
        self._shown = _without_queries(url)
        self.size = size
        self._position = 0
        self._closed = False
        self._session = _Session()
        # What nginx would compress on its way is compressed already.
        self._session.headers["Accept-Encoding"] = "identity"
        if token:
            self._session.headers["Token"] = token
        self._response: requests.Response | None = None
        self._pauses = iter(_PAUSES)

    def __enter__(self) -> Self:
        """Return the download."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the connection, if there is one.

        Another thread that still reads gets no further.
        """
        self._closed = True
        self._session.close()

    def read(self, size: int) -> bytes:
        """Return up to size bytes, none at the end.

        :raises ServerFailed: after several attempts, or where another would
            be of no use
        """
        wanted = min(size, self.size - self._position)
        while wanted:
            if self._closed:
                raise ServerFailed("The download was given up")
            try:
                if self._response is None:
                    self._response = self._connect()
                data: bytes = self._response.raw.read(wanted)
                if data:
                    self._position += len(data)
                    self._pauses = iter(_PAUSES)
                    return data
                problem = "the connection was closed"
            except _FAILURES as failure:
                problem = _without_queries(str(failure))
            self._response = None
            self._pause(problem)
        return b""

    def _connect(self) -> requests.Response:
        """Ask for what has not been read."""
        log.info("downloading %s from byte %d", self._shown, self._position)
        begun = self._position > 0
        response = self._session.get(
            self._url,
            headers={"Range": f"bytes={self._position}-"} if begun else {},
            stream=True,
            timeout=_LIMITS,
        )
        _check(response)
        if begun and response.status_code != HTTPStatus.PARTIAL_CONTENT:
            _skip(response, self._position)
        return response

    def _pause(self, problem: str) -> None:
        for seconds in self._pauses:
            log.warning(
                "download of %s stopped at %d of %d bytes (%s): trying again"
                " in %g s",
                self._shown,
                self._position,
                self.size,
                problem,
                seconds,
            )
            time.sleep(seconds)
            return
        raise ServerFailed(
            f"{self._shown} can't be downloaded: it stopped at"
            f" {self._position} of {self.size} bytes",
            details=problem,
            resolution="Try again when the server can be reached.",
        )


class _Session(requests.Session):  # type: ignore[misc] # has no types
    """A session that gives its token to nobody but whom it was meant for."""

    def rebuild_auth(
        self,
        prepared_request: requests.PreparedRequest,
        response: requests.Response,
    ) -> None:
        """Drop the token where a redirection leads to another host."""
        super().rebuild_auth(prepared_request, response)
        if self.should_strip_auth(response.request.url, prepared_request.url):
            prepared_request.headers.pop("Token", None)


def _without_queries(text: str) -> str:
    """Return a text without what its URLs may authorise.

    A signed URL has its signature in the query, and some have a password.
    """
    text = re.sub(r"(\w://)[^/@\s]*@", r"\1...@", text)
    return re.sub(r"\?[^\s\"')>]+", "?...", text)


def _check(response: requests.Response) -> None:
    """Refuse an answer that is not the file.

    :raises requests.HTTPError: which may pass
    :raises ServerFailed: which won't
    """
    status = response.status_code
    if status < HTTPStatus.BAD_REQUEST:
        return
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in _TRANSIENT:
        response.raise_for_status()
    raise ServerFailed(
        f"The server refuses the download: {status} {response.reason}",
        details=_without_queries(response.url),
    )


def _skip(response: requests.Response, count: int) -> None:
    """Read over bytes that are known: the server can't begin in the middle."""
    while count:
        data = response.raw.read(min(count, 1 << 20))
        if not data:
            raise requests.ConnectionError("the connection was closed")
        count -= len(data)
