# SPDX-License-Identifier: GPL-3.0-or-later
"""The files of an image, sent to a daemon that does not want them."""

import contextlib
import io
import json
import socket
from collections.abc import Callable, Iterator, Mapping
from email import message_from_bytes, policy
from pathlib import Path

import pytest

from incus_testbed import errors
from incus_testbed.incus import upload
from incus_testbed.incus.exec import api, operation
from incus_testbed.incus.exec.address import UnixAddress
from incus_testbed.incus.transport import Direct
from tests.support.listener import Listener

#: Seconds after which something hangs, on a machine however busy.
_LIMIT = 60.0
#: More than the sockets hold.
_LARGE = bytes(8 << 20)


@contextlib.contextmanager
def daemon(
    path: Path, serve: Callable[[socket.socket], object]
) -> Iterator[UnixAddress]:
    """Have ``serve`` called with each connection to a socket."""

    def served(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            serve(connection)

    listener = Listener.at(path, served)
    try:
        yield UnixAddress(str(path))
    finally:
        listener.close()


def answer(status: str, document: Mapping[str, object]) -> bytes:
    content = json.dumps(document).encode()
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(content)}\r\n\r\n"
    return head.encode() + content


def until(connection: socket.socket, end: bytes) -> bytes:
    data = b""
    while not data.endswith(end):
        data += connection.recv(1 << 20) or end
    return data


def _sent(address: UnixAddress, rootfs: bytes) -> object:
    files = io.BytesIO(b"metadata"), io.BytesIO(rootfs)
    return upload.upload(address, "/1.0/images", *files, _LIMIT)


@pytest.mark.parametrize(
    ("rootfs", "name"),
    [
        (b"rootfs\r\n", "rootfs"),
        (b"QFI\xfbdisk", "rootfs.img"),
        (b"", "rootfs"),
    ],
)
def test_the_daemon_gets_a_form_of_two_files(
    rootfs: bytes, name: str, tmp_path: Path
) -> None:
    seen: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        seen.append(until(connection, b"\r\n0\r\n\r\n"))
        document = {"type": "async", "metadata": {"id": "7"}}
        connection.sendall(answer("202 Accepted", document))

    with daemon(tmp_path / "socket", serve) as address:
        assert _sent(address, rootfs) == {"id": "7"}

    head, _, chunks = seen[0].partition(b"\r\n\r\n")
    content = b""
    while size := int((parts := chunks.partition(b"\r\n"))[0], 16):
        content += parts[2][:size]
        chunks = parts[2][size + 2 :]
    fields = head.partition(b"\r\n")[2]
    form = message_from_bytes(
        fields + b"\r\n\r\n" + content, policy=policy.HTTP
    )
    files = {
        part.get_param("name", header="Content-Disposition"): part.get_payload(
            decode=True
        )
        for part in form.iter_parts()
    }
    assert files == {"metadata": b"metadata", name: rootfs}


def test_a_refusal_in_the_middle_is_what_is_told(tmp_path: Path) -> None:
    said = "write /var/lib/incus/images/x: no space left on device"

    def serve(connection: socket.socket) -> None:
        connection.recv(1000)
        document = {"type": "error", "error": said}
        connection.sendall(answer("500 Internal Server Error", document))

    with daemon(tmp_path / "socket", serve) as address:
        with pytest.raises(api.Refused, match=said):
            _sent(address, _LARGE)
        direct = Direct(address, "default", _LIMIT)
        with pytest.raises(errors.NoSpace):
            direct.import_image(
                io.BytesIO(b""), io.BytesIO(_LARGE), timeout=_LIMIT
            )


def test_a_daemon_that_goes_is_lost(tmp_path: Path) -> None:
    with (
        daemon(tmp_path / "socket", lambda each: each.recv(9)) as address,
        pytest.raises(api.Lost),
    ):
        _sent(address, _LARGE)


def test_a_daemon_that_takes_nothing_is_not_waited_for(tmp_path: Path) -> None:
    def serve(connection: socket.socket) -> None:
        connection.recv(1, socket.MSG_PEEK)
        connection.settimeout(_LIMIT)
        until(connection, b"never")

    files = io.BytesIO(b""), io.BytesIO(b"")
    with (
        daemon(tmp_path / "socket", serve) as address,
        pytest.raises(api.Late),
    ):
        upload.upload(address, "/1.0/images", *files, 0.3)


def test_an_operation_that_fails_says_why(tmp_path: Path) -> None:
    """Its failure comes after the daemon has accepted the files."""

    def serve(connection: socket.socket) -> None:
        if connection.recv(4, socket.MSG_PEEK) == b"POST":
            until(connection, b"\r\n0\r\n\r\n")
            document: dict[str, object] = {"id": "7"}
        else:
            assert b"/operations/7/wait" in until(connection, b"\r\n\r\n")
            document = {"err": "Image with same fingerprint already exists"}
        found = {"type": "sync", "metadata": document}
        connection.sendall(answer("200 OK", found))

    with daemon(tmp_path / "socket", serve) as address:
        direct = Direct(address, "default", _LIMIT)
        with pytest.raises(errors.AlreadyExists):
            direct.import_image(
                io.BytesIO(b""), io.BytesIO(b""), timeout=_LIMIT
            )


@pytest.mark.parametrize(
    "ended",
    [
        None,
        [],
        {},
        {"err": ""},
        {"err": "", "metadata": None},
        {"err": "", "metadata": {}},
        {"err": "", "metadata": {"fingerprint": 7}},
        {"err": "", "metadata": {"fingerprint": "../x"}},
    ],
)
def test_an_operation_that_names_no_image(ended: object) -> None:
    with pytest.raises(api.Lost):
        upload.fingerprint(ended)


@pytest.mark.parametrize("begun", [None, [], {}, {"id": None}, "id"])
def test_an_operation_without_a_name(begun: object) -> None:
    with pytest.raises(api.Lost):
        operation.named(begun)


def test_the_name_of_an_operation_is_one_word_of_a_path() -> None:
    assert operation.named({"id": "../a?b"}) == "..%2Fa%3Fb"
