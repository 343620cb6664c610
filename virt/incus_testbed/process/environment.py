# SPDX-License-Identifier: GPL-3.0-or-later
"""The environment of the programs that this process starts."""

import os

#: With these, a user chooses the Incus server, and programs find their files.
#: A child of ours must look for locks where this process does (lock.py).
#: incus reaches a remote through a proxy.
_KEPT = (
    "HOME",
    "HTTPS_PROXY",
    "NO_PROXY",
    "PATH",
    "TMPDIR",
    "XDG_CACHE_HOME",
    "XDG_CONFIG_HOME",
    "XDG_RUNTIME_DIR",
    "https_proxy",
    "no_proxy",
)
_KEPT_PREFIX = "INCUS_"


def environment() -> dict[str, str]:
    """Return the environment of each child: few variables, and in English."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or name.startswith(_KEPT_PREFIX)
    }
    return {**kept, "LC_ALL": "C.UTF-8"}
