# SPDX-License-Identifier: GPL-3.0-or-later
"""Name the Debian packages of programs."""

from pathlib import Path

from incus_testbed import errors

#: The Debian packages of programs, where the two differ in name.
_PACKAGES = {
    "bwrap": "bubblewrap",
    "incus": "incus-client",
    "ip": "iproute2",
    "mcopy": "mtools",
    "mke2fs": "e2fsprogs",
    "mkfs.vfat": "dosfstools",
    "mmd": "mtools",
    "prlimit": "util-linux",
    "qemu-img": "qemu-utils",
    "setpriv": "util-linux",
    "setsid": "util-linux",
    "sfdisk": "fdisk",
    "xz": "xz-utils",
}


def of(name: str) -> str:
    """Return the Debian package that has a program."""
    program = Path(name).name
    return _PACKAGES.get(program, program)


def missing(name: str) -> errors.MissingProgram:
    """Return the error for a program that is not there."""
    return errors.MissingProgram(
        f"{name} is not installed",
        resolution=f"Install it: apt install {of(name)}",
    )
