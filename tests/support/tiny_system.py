# SPDX-License-Identifier: GPL-3.0-or-later
"""A tarball that passes for a Debian system, and is imported in no time."""

import io
import tarfile

from tests.unit.system.test_facts import MINIMAL


def tarball(name: str = "", size: int = 0) -> bytes:
    """Return a system that differs by name, with so much filling."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, text in {**MINIMAL, "etc/name": name}.items():
            member = tarfile.TarInfo(path)
            if text.startswith("-> "):
                member.type, member.linkname = tarfile.SYMTYPE, text[3:]
                tar.addfile(member)
                continue
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
        filling = tarfile.TarInfo("filling")
        filling.size = size
        tar.addfile(filling, io.BytesIO(bytes(size)))
    return packed.getvalue()
