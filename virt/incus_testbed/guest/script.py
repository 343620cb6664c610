# SPDX-License-Identifier: GPL-3.0-or-later
"""The scripts of overlay/ that are run in a guest and answer."""

from collections.abc import Sequence

from incus_testbed.guest import files


def command(name: str, *arguments: str, shell: str = "sh") -> Sequence[str]:
    """Return the command that runs a script of the overlay in a guest.

    The text travels as an argument, so that any guest can run it, whether or
    not this project made its image.
    """
    lines = files.content(name).decode().splitlines()
    code = "\n".join(
        line for line in lines if line and not line.lstrip().startswith("#")
    )
    return [shell, "-c", code, name.removesuffix(".sh"), *arguments]


def answers(output: str) -> dict[str, str]:
    """Read the key=value lines that a script printed."""
    return dict(
        line.split("=", 1) for line in output.splitlines() if "=" in line
    )
