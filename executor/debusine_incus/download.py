# SPDX-License-Identifier: GPL-3.0-or-later
"""Download a file of a Debusine artifact as a stream."""

import logging
import re
import time
from http import HTTPStatus
from typing import Self

import requests
from urllib3.exceptions import HTTPError

from incus_testbed import errors

log = logging.getLogger(__name__)

#: Seconds to wait for a connection, and for the next bytes.
_LIMITS = (15.0, 60.0)
#: Seconds to wait before each further attempt.
_PAUSES = (1.0, 4.0, 15.0)

#: These statuses are tried again, and so are those from 500 on.
_TRANSIENT = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
_FAILURES = (requests.RequestException, HTTPError, OSError)


class ServerFailed(errors.TestbedError):
    """Debusine's server can't be reached, or refuses a request."""


class Download:
    """The bytes of a file; the first ``read`` sends the first request.

    If the connection breaks, a new one continues at the same position.
    """

    def __init__(self, url: str, *, size: int, token: str | None) -> None:
        """Prepare to read size bytes from url, with a token if it needs one."""
        self._url = url
        self._shown = _without_queries(url)
        self.size = size
        self._position = 0
        self._closed = False
        self._session = _Session()
        # The file is already compressed, so nginx must not compress it again.
        self._session.headers["Accept-Encoding"] = "identity"
        if token:
            self._session.headers["Token"] = token
        self._response: requests.Response | None = None
        self._pauses = iter(_PAUSES)

    def __enter__(self) -> Self:
        """Return the download."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection, if there is one.

        A read in another thread then fails.
        """
        self._closed = True
        self._session.close()

    def read(self, size: int) -> bytes:
        """Return up to size bytes, none at the end.

        :raises ServerFailed: several attempts failed, or another attempt would
            not help
        """
        wanted = min(size, self.size - self._position)
        while wanted:
            if self._closed:
                raise ServerFailed("The download was cancelled")
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
        """Request the bytes that have not been read."""
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
    """A session that sends its token only to the server it was given for."""

    def rebuild_auth(
        self,
        prepared_request: requests.PreparedRequest,
        response: requests.Response,
    ) -> None:
        """Drop the token if a redirection leads to another host."""
        super().rebuild_auth(prepared_request, response)
        if self.should_strip_auth(response.request.url, prepared_request.url):
            prepared_request.headers.pop("Token", None)


def _without_queries(text: str) -> str:
    """Return a text without the secrets that its URLs may hold.

    A signed URL has its signature in the query, and some URLs have a password.
    """
    text = re.sub(r"(\w://)[^/@\s]*@", r"\1...@", text)
    return re.sub(r"\?[^\s\"')>]+", "?...", text)


def _check(response: requests.Response) -> None:
    """Raise if an answer is not the file.

    :raises requests.HTTPError: another attempt may succeed
    :raises ServerFailed: no attempt can succeed
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
    """Skip bytes that were read before: the server sent the whole file."""
    while count:
        data = response.raw.read(min(count, 1 << 20))
        if not data:
            raise requests.ConnectionError("the connection was closed")
        count -= len(data)
