# SPDX-License-Identifier: GPL-3.0-or-later
"""Check this machine's programs, sandbox, kernel limits and user ids."""

import os
import shutil
from pathlib import Path

from incus_testbed.host.requirement import Finding, failed, good, warning
from incus_testbed.process import packages, sandbox

#: Programs that we or incusd call.
_PROGRAMS = ("bzip2", "incus", "ip", "xz", "zstd")

#: Limits that all systems on one kernel share: the name, the least value for a
#: handful of systems, the value that Incus' documentation recommends ("Server
#: settings for an Incus production setup"), and the failure below the least.
#: A plain Debian uses 6 inotify instances, 19 watches, and 16 keys of 270
#: bytes; tests in it use more.
_LIMITS = (
    (
        "fs.inotify.max_user_instances",
        512,
        1048576,
        "units fail: too many open files",
    ),
    (
        "fs.inotify.max_user_watches",
        16384,
        1048576,
        "units fail: no space left on device",
    ),
    ("kernel.keys.maxkeys", 1000, 2000, "units fail: disk quota exceeded"),
    (
        "kernel.keys.maxbytes",
        100000,
        2000000,
        "units fail: disk quota exceeded",
    ),
)
_SYSCTL_FILE = "/etc/sysctl.d/60-incus-testbed.conf"

#: User ids that one container needs, and the command that gives many more.
_IDS = 65536
IDS_ADVICE = (
    "usermod --add-subuids 1000000-1000999999"
    " --add-subgids 1000000-1000999999 root && systemctl restart incus"
)


def check_programs() -> Finding:
    """Check that all needed programs are installed."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    absent = [
        name for name in _PROGRAMS if shutil.which(name, path=path) is None
    ]
    if absent:
        wanted = " ".join(map(packages.of, absent))
        return failed(
            f"not installed: {', '.join(absent)}",
            advice=f"apt install {wanted}",
        )
    return good(", ".join(_PROGRAMS))


def check_sandbox() -> Finding:
    """Check that files of unknown origin can be converted in a sandbox."""
    obstacle = sandbox.obstacle()
    if obstacle is None:
        return good("files are converted in a sandbox")
    return warning(
        "files are converted without a sandbox, with only limits of"
        f" memory and time: {obstacle}",
        advice="apt install bubblewrap, and allow users to make namespaces:"
        " sysctl user.max_user_namespaces kernel.unprivileged_userns_clone",
    )


def check_limits(root: Path = Path("/proc/sys")) -> Finding:
    """Check that the kernel's limits let many systems run at once."""
    low = [
        (name, wanted, effect)
        for name, least, wanted, effect in _LIMITS
        if int((root / name.replace(".", "/")).read_text()) < least
    ]
    if not low:
        return good("enough for many testbeds at once")
    settings = "".join(rf"{name}={wanted}\n" for name, wanted, _ in low)
    effects = "; ".join(f"{name}: {effect}" for name, _, effect in low)
    return warning(
        f"too low for many testbeds at once ({effects})",
        advice=f"printf '{settings}' >>{_SYSCTL_FILE}"
        f" && sysctl -p {_SYSCTL_FILE}",
    )


def check_ids(root: Path = Path("/etc")) -> Finding:
    """Check that root may give user and group ids to containers.

    If there are no such files, Incus uses its own range.
    """
    if has_ids(_IDS, root):
        return good("root has a range for containers")
    return failed(
        f"root has no range of {_IDS} in /etc/subuid and /etc/subgid",
        advice=IDS_ADVICE,
    )


def has_ids(count: int, root: Path = Path("/etc")) -> bool:
    """Tell whether root may give so many user and group ids to containers."""
    return all(
        _largest_range((root / name).read_text()) >= count
        for name in ("subuid", "subgid")
        if (root / name).exists()
    )


def _largest_range(table: str) -> int:
    """Return the size of root's largest range of ids in a subuid(5) table."""
    entries = (line.split(":") for line in table.splitlines())
    return max(
        (int(entry[2]) for entry in entries if entry[0] in {"root", "0"}),
        default=0,
    )
