# SPDX-License-Identifier: GPL-3.0-or-later
"""Run commands where incusd has its mounts: a private one hides them."""

import os
import socket
import struct
from pathlib import Path


def command(*words: str) -> list[str]:
    """Return a command in the namespaces of the environment's local Incus."""
    state = os.environ.get("INCUS_DIR", "/var/lib/incus")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(f"{state}/unix.socket")
        credentials = client.getsockopt(
            socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
        )
    process, _, _ = struct.unpack("3i", credentials)
    return [
        *("nsenter", f"--target={process}", "--mount", "--pid"),
        *(f"--wd={Path.cwd()}", *words),
    ]
