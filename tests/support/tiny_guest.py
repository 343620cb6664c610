# SPDX-License-Identifier: GPL-3.0-or-later
"""A split image that starts in no time: a shell script is its init.

It has the files of this machine's own sh and sleep.  The script ends when Incus
asks the guest to shut down.
"""

import functools
import io
import os
import re
import subprocess
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path

from incus_testbed.image import metadata
from incus_testbed.image.disk import qcow2

#: What makes the guest ignore the request to shut down, and what makes its
#: start fail.
DEAF = "raw.lxc=lxc.init.cmd = /bin/sleep infinity"
BROKEN = "raw.lxc=lxc.init.cmd = /does/not/exist"

_INIT = """\
#!/bin/sh
trap 'exit 0' PWR
while :; do
    sleep infinity &
    wait
done
"""
_PROGRAMS = ("/bin/sh", "/bin/sleep")
#: They have to exist for LXC to mount something there.
_FOLDERS = ("dev", "proc", "sys", "etc", "run", "tmp")


def write(
    folder: Path,
    name: str = "guest",
    *,
    properties: Mapping[str, str] | None = None,
    date: int | None = None,
    disk: bool = False,
) -> tuple[str, str]:
    """Write the image's two files; return their paths.

    Images that differ by name have different fingerprints.  ``disk``: it is a
    virtual machine's, and can't be started.  ``date`` is now by default.
    """
    head = metadata.metadata_tar(
        architecture=_architecture(),
        creation_date=int(time.time()) if date is None else date,
        profile="debusine",
        description=name,
        vendor="debian",
        codename="trixie",
        artifact_id=name,
        properties=properties,
    )
    paths = folder / "metadata.tar", folder / "rootfs"
    paths[0].write_bytes(head)
    paths[1].write_bytes(_disk() if disk else _system())
    return str(paths[0]), str(paths[1])


def _disk() -> bytes:
    return qcow2.MAGIC + bytes(4096)


@functools.cache
def _architecture() -> str:
    return subprocess.check_output(
        ["dpkg", "--print-architecture"], text=True
    ).strip()


@functools.cache
def _system() -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for folder in _FOLDERS:
            member = tarfile.TarInfo(folder)
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(member)
        for path in sorted({*_PROGRAMS, *map(str, _libraries())}):
            _add(tar, path, Path(path).read_bytes())
        _add(tar, "/sbin/init", _INIT.encode())
    return packed.getvalue()


def _add(tar: tarfile.TarFile, path: str, content: bytes) -> None:
    member = tarfile.TarInfo(path.lstrip(os.sep))
    member.mode, member.size = 0o755, len(content)
    tar.addfile(member, io.BytesIO(content))


def _libraries() -> list[str]:
    said = subprocess.check_output(["ldd", *_PROGRAMS], text=True)
    return re.findall(r"^\s+(?:\S+ => )?(/\S+) \(", said, re.MULTILINE)
