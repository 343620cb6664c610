# SPDX-License-Identifier: GPL-3.0-or-later
"""Send the two files of an image to the daemon, as the incus command does."""

import os
import re
import time
from collections.abc import Iterator
from typing import IO, Any

from incus_testbed.incus.exec import api, operation
from incus_testbed.incus.exec.address import Address
from incus_testbed.incus.exec.operation import NONSENSE
from incus_testbed.incus.exec.response import Response

_CHUNK = 1 << 20
_FINGERPRINT = re.compile(r"[0-9a-f]{64}")
#: What a disk begins with, which is the image of a virtual machine.
_QCOW2 = b"QFI\xfb"


def upload(
    address: Address,
    target: str,
    metadata: IO[bytes],
    rootfs: IO[bytes],
    limit: float,
) -> Any:
    """Send an image; return the record of the operation that imports it.

    ``target`` is the path of the images with its query, ``limit`` the seconds
    until the daemon has it all.

    :raises api.Failure: the daemon does not take it
    """
    deadline = time.monotonic() + limit
    # Nobody can have it in a file beforehand.
    boundary = os.urandom(16).hex()
    head = (
        f"POST {target} HTTP/1.1\r\n"
        "Host: incus\r\n"
        "Connection: close\r\n"
        f"Content-Type: multipart/form-data; boundary={boundary}\r\n"
        "Transfer-Encoding: chunked\r\n\r\n"
    )
    connection = address.connect(limit)
    try:
        try:
            connection.sendall(head.encode())
            for data in _content(metadata, rootfs, boundary):
                connection.settimeout(max(0.1, deadline - time.monotonic()))
                connection.sendall(b"%x\r\n" % len(data) + data + b"\r\n")
            connection.sendall(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # the daemon has read enough, and says why
        left = max(0.1, deadline - time.monotonic())
        answer = api.read(connection, left, Response())
    except TimeoutError:
        raise api.Late(f"no answer within {limit:g} s") from None
    except OSError as error:
        raise api.Lost(f"lost the Incus daemon: {error}") from None
    finally:
        connection.close()
    return api.metadata(answer.content)


def fingerprint(ended: Any) -> str:
    """Return the fingerprint of the image that an operation has imported.

    :raises api.Refused: the operation failed
    :raises api.Lost: the daemon did not say how it ended
    """
    operation.check(ended)
    try:
        imported = ended["metadata"]["fingerprint"]
    except (KeyError, TypeError):
        raise api.Lost(NONSENSE) from None
    if not isinstance(imported, str) or not _FINGERPRINT.fullmatch(imported):
        raise api.Lost(NONSENSE)
    return imported


def _content(
    metadata: IO[bytes], rootfs: IO[bytes], boundary: str
) -> Iterator[bytes]:
    """Yield a form with two files (RFC 7578), in pieces that are not empty."""
    first = rootfs.read(_CHUNK)
    name = "rootfs.img" if first.startswith(_QCOW2) else "rootfs"
    yield _file("metadata", boundary)
    while data := metadata.read(_CHUNK):
        yield data
    yield b"\r\n" + _file(name, boundary)
    while first:
        yield first
        first = rootfs.read(_CHUNK)
    yield f"\r\n--{boundary}--\r\n".encode()


def _file(name: str, boundary: str) -> bytes:
    """Return what comes before the content of a file."""
    return (
        f"--{boundary}\r\n"
        f'Content-Disposition: form-data; name="{name}"; filename="{name}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n"
    ).encode()
