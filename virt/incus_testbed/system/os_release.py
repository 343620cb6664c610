# SPDX-License-Identifier: GPL-3.0-or-later
"""Read an image's own name from os-release(5)."""

import re
import shlex
from collections.abc import Mapping


def fields(text: str) -> dict[str, str]:
    """Return the file's variables; other lines are ignored."""
    found = {}
    for line in text.splitlines():
        name, equals, value = line.partition("=")
        try:
            words = shlex.split(value, comments=True)
        except ValueError:  # an open quote
            continue
        if equals and len(words) == 1:
            found[name.strip()] = words[0]
    return found


def codename(release: Mapping[str, str], debian_version: str) -> str:
    """Return a suite's name, empty if unknown.

    Before 2023, os-release in Debian testing had no field for it.
    """
    if name := release.get("VERSION_CODENAME"):
        return name
    for pattern, text in (
        (r"\(([a-z]+)\)", release.get("VERSION", "")),
        (r"\b([a-z]+)/sid\b", release.get("PRETTY_NAME", "")),
        (r"\b([a-z]+)/sid\b", debian_version),
    ):
        if found := re.search(pattern, text):
            return found[1]
    return ""
