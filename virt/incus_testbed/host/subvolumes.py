# SPDX-License-Identifier: GPL-3.0-or-later
"""Check that a testbed makes no subvolumes in a pool of btrfs.

Each user may make one.  The limit of the root disk does not count what is in
it: with it, one testbed can fill the pool.
"""

import errno
import fcntl
import os
import struct
from pathlib import Path

from incus_testbed import errors
from incus_testbed.host import limits
from incus_testbed.host.devices import words
from incus_testbed.host.requirement import Finding, failed, good, warning
from incus_testbed.incus.client import Incus

#: The system calls that a guest may not make, or may make alone; Incus takes
#: one of the two.
_DENIED, _ALLOWED = "security.syscalls.deny", "security.syscalls.allow"

#: The ioctls that make subvolumes, in Linux' include/uapi/linux/btrfs.h:
#: SNAP_CREATE, SUBVOL_CREATE, and the second version of both.  What is above
#: these bits depends on the architecture, and the kernel ignores some of it.
_BITS, _CALLS = 0xFFFF, (0x9401, 0x940E, 0x9417, 0x9418)
#: What the call says: ENOTTY, as on a file system that has none.  So programs
#: make a folder instead.
_ANSWER = errno.ENOTTY
#: SUBVOL_CREATE as a whole, on most architectures and on POWER.
_CREATE = (0x5000940E, 0x9000940E)
#: In LXC's words, for which Incus has none of its own.
_RULES = "\n".join(
    f"ioctl errno {_ANSWER} [1,{_BITS:#x},SCMP_CMP_MASKED_EQ,{call:#x}]"
    for call in _CALLS
)


def check(incus: Incus, profile_name: str, *, driver: str) -> Finding:
    """Check a profile, unless its pool's driver is another one.

    If the profile has rules for system calls, an admin has chosen them.
    """
    if driver != "btrfs":
        return good(f"the driver {driver} has none")
    try:
        config = incus.profile(profile_name)["config"]
    except errors.NotFound:
        config = {}
    if limits.are_unwanted(config):
        return good("allowed, as an admin has chosen")
    if set(_RULES.splitlines()) <= set(config.get(_DENIED, "").splitlines()):
        return good("testbeds can't make any")
    detail = "a testbed can make some: there its disk has no limit"
    where = f"{_DENIED} of the profile {profile_name}"
    if _ALLOWED in config:
        return warning(
            detail,
            advice=f"Instead of {_ALLOWED}, beside which Incus takes no other"
            f" rules, set {where} to:\n{_RULES}",
        )
    if _DENIED in config:
        return warning(detail, advice=f"Add these lines to {where}:\n{_RULES}")
    target = incus.target(profile_name)
    rules = words({_DENIED: _RULES})
    return failed(detail, fix=(("incus", "profile", "set", target, *rules),))


def can_be_made(folder: Path) -> bool:
    """Tell whether this machine can make some in a folder of a btrfs.

    It can't if it is a testbed itself.  If that can't be known, it is true.
    """
    try:
        place = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return True
    try:
        answers = [_failure(place, call) for call in _CREATE]
    finally:
        os.close(place)
    return any(answer != _ANSWER for answer in answers)


def _failure(place: int, call: int) -> int:
    """Ask for a subvolume whose name is always taken; return the errno."""
    try:
        fcntl.ioctl(place, call, bytearray(struct.pack("q4088s", 0, b".")))
    except OSError as error:
        return error.errno or 0
    return 0
