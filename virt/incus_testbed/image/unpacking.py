# SPDX-License-Identifier: GPL-3.0-or-later
"""Choose a compression that the server has a program for.

Incus unpacks an image with programs of its machine, and its API does not tell
which ones are installed.
"""

import io
import logging
import tarfile
from collections.abc import Mapping
from typing import IO, Any

from incus_testbed import errors
from incus_testbed.image.stream import compression, scratch
from incus_testbed.image.stream.compression import GZIP, XZ, ZSTD, Form
from incus_testbed.incus.client import Incus
from incus_testbed.process import packages

log = logging.getLogger(__name__)

#: The best first.  The last needs no question: incusd does not start without
#: xz.
_FORMS = (ZSTD, GZIP, XZ)


def form(incus: Incus, environment: Mapping[str, Any]) -> Form:
    """Return how the image of a tarball is to be compressed for a server.

    ``environment`` is that of incus.server().  This machine has all programs,
    because our package needs them.  In a cluster, the member that launches an
    image unpacks it, but only one member can be asked: the image gets the form
    that every Debian can unpack.
    """
    if environment.get("server_clustered"):
        return GZIP
    if incus.is_local():
        return ZSTD
    missing = lacking(incus)
    best = _FORMS[len(missing)]
    if missing:
        log.warning(
            "the Incus server lacks %s, so the image is compressed by %s, which"
            " takes longer. %s",
            " and ".join(missing),
            best.program,
            remedy(missing),
        )
    return best


def lacking(incus: Incus) -> list[str]:
    """Return the programs that a server lacks for better forms.

    Nothing is made on the server.
    """
    missing = []
    for each in _FORMS[:-1]:
        try:
            with scratch.file() as archive:
                _write(archive, each)
                incus.check_unpacks(scratch.path(archive))
        except errors.MissingProgram:
            missing.append(each.program)
        else:
            break
    return missing


def remedy(missing: list[str]) -> str:
    """Return the advice that makes a server have programs."""
    names = " ".join(map(packages.of, missing))
    return f"On the server's machine: apt install {names}"


def _write(archive: IO[bytes], chosen: Form) -> None:
    """Write a tarball that holds one empty file."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("empty"))
    with compression.compressor(archive, chosen) as compressor:
        compressor.write(content.getvalue())
        compressor.finish()
