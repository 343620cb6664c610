# SPDX-License-Identifier: GPL-3.0-or-later
"""The files that are put, or run, in a guest."""

from collections.abc import Sequence
from importlib import resources


def overlay(name: str) -> str:
    """Return the text of a file of the overlay."""
    return (
        resources.files(__package__)
        .joinpath("overlay", name)
        .read_text(encoding="utf-8")
    )


def command(name: str, *arguments: str, shell: str = "sh") -> Sequence[str]:
    """Return the command that runs a script of the overlay in a guest.

    The text travels as an argument, so that any guest can run it, whether or
    not this project made its image.
    """
    lines = overlay(name).splitlines()
    code = "\n".join(
        line for line in lines if line and not line.lstrip().startswith("#")
    )
    return [shell, "-c", code, name.removesuffix(".sh"), *arguments]


def answers(output: str) -> dict[str, str]:
    """Read the key=value lines that a script printed."""
    return dict(
        line.split("=", 1) for line in output.splitlines() if "=" in line
    )
