# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of HTTP/1.1 end where they say, however they arrive."""

from typing import Any

import pytest

from incus_testbed.incus.exec import response
from incus_testbed.incus.exec.response import Malformed, Response

_OK = b"HTTP/1.1 200 OK\r\n"
_CHUNKED = _OK + b"Transfer-Encoding: chunked\r\n\r\n"


def _taken(stream: bytes, size: int = 0, **options: Any) -> Response:
    taken = Response(**options)
    size = size or len(stream) or 1
    for place in range(0, len(stream), size):
        taken.feed(stream[place : place + size])
    return taken


@pytest.mark.parametrize("size", [0, 1, 2, 3, 7])
@pytest.mark.parametrize(
    ("stream", "content"),
    [
        (_OK + b"Content-Length: 5\r\n\r\nhello", b"hello"),
        (_OK + b"content-length:5\r\nX: y\r\n\r\nhello", b"hello"),
        (_OK + b"Content-Length: 0\r\n\r\n", b""),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 1\r\n\r\nx", b"x"),
        (_CHUNKED + b"5\r\nhello\r\n0\r\n\r\n", b"hello"),
        (_CHUNKED + b"3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX: y\r\n\r\n", b"hello"),
        (_CHUNKED + b"00\r\n\r\n", b""),
    ],
)
def test_answer_is_whole_without_an_end_of_the_connection(
    stream: bytes, content: bytes, size: int
) -> None:
    taken = _taken(stream, size)
    assert taken.whole
    assert taken.content == content
    assert not _taken(stream[:-1], size).whole


def test_what_comes_after_it_is_not_looked_at() -> None:
    taken = _taken(_OK + b"Content-Length: 2\r\n\r\nhello")
    assert (taken.whole, bytes(taken.content)) == (True, b"he")
    taken.feed(b"more")
    taken.feed(b"")
    assert taken.content == b"he"


def test_answer_of_unknown_length_ends_with_the_connection() -> None:
    taken = _taken(_OK + b"\r\nhello", 1)
    assert not taken.whole
    taken.feed(b"")
    assert (taken.whole, bytes(taken.content)) == (True, b"hello")


@pytest.mark.parametrize(
    "stream",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        _OK + b"Content-Length: -1\r\n\r\n",
        _OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\n",
        _OK + b"Content-Length: 5x\r\n\r\n",
        _OK + b"Content-Length: 9999999999999999999999\r\n\r\n",
        _OK + b"Content-Length: 999999999999\r\n\r\n",
        _OK + b"Transfer-Encoding: gzip\r\n\r\n",
        _OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n",
        _CHUNKED + b"x\r\n",
        _CHUNKED + b"-1\r\n",
        _CHUNKED + b"\r\n",
        _CHUNKED + b"FFFFFFFF\r\n",
        _CHUNKED + b"fffffffffffffffffffff\r\n",
        _CHUNKED + b"2\r\nhello\r\n",
        _CHUNKED + b"1" * (response.LONGEST_HEAD + 1),
        _CHUNKED + b"0\r\n" + b"X: y\r\n" * response.LONGEST_HEAD,
        _OK + b"X: y\r\n" * response.LONGEST_HEAD,
    ],
)
def test_answer_that_makes_no_sense(stream: bytes) -> None:
    with pytest.raises(Malformed):
        _taken(stream)
    with pytest.raises(Malformed):
        _taken(stream, 4096)


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        _OK,
        _OK + b"Content-Length: 5\r\n\r\nhell",
        _CHUNKED + b"5\r\nhello",
    ],
)
def test_connection_that_ends_too_early(stream: bytes) -> None:
    taken = _taken(stream)
    with pytest.raises(Malformed, match="not whole"):
        taken.feed(b"")


def test_chunks_that_are_too_large_together() -> None:
    _taken(_CHUNKED + b"5\r\nhello\r\n5\r\nhello\r\n", most=10)
    with pytest.raises(Malformed, match="larger"):
        _taken(_CHUNKED + b"5\r\nhello\r\n6\r\n", most=10)


def test_content_that_is_too_large() -> None:
    stream = _OK + b"Content-Length: 11\r\n\r\n"
    _taken(stream, most=11)
    with pytest.raises(Malformed, match="larger"):
        _taken(stream, most=10)
