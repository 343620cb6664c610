# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the configuration of the incus command, which is YAML."""

import contextlib
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

#: A line as the incus command writes nearly all: a key, and nothing, or a value
#: that YAML takes for text, a boolean or an empty mapping.
_LINE = re.compile(
    r"( *)([a-z][a-z0-9_-]*):"
    r"(?: ([a-z][a-z0-9+.-]*(?:://(?:[A-Za-z0-9_./:-]*[A-Za-z0-9_/])?)?|\{\}))?",
    re.ASCII,
)
_INDENT = 2
_BOOLEANS = {"true": True, "false": False}
#: Words that YAML may take for something else than text.
_SPECIAL = frozenset({"y", "n", "yes", "no", "on", "off", "null"})


def read(folder: Path) -> Mapping[str, Any] | None:
    """Return the configuration in a folder; None if there is none to read."""
    try:
        text = (folder / "config.yml").read_bytes()
    except OSError:
        return None
    return _parsed(text)


# Before each request the user may have changed it, but hardly ever has.
@lru_cache(maxsize=4)
def _parsed(text: bytes) -> Mapping[str, Any] | None:
    simple = _simple(text)
    if simple is not None:
        return simple
    # Imported here: it takes as long as all that a testbed needs of this
    # package.
    import yaml  # noqa: PLC0415

    with contextlib.suppress(yaml.YAMLError):
        document = yaml.safe_load(text)
        if isinstance(document, dict):
            return document
    return None


def _simple(text: bytes) -> dict[str, Any] | None:
    """Return what plain mappings say; None if only YAML's rules can tell."""
    document: dict[str, Any] = {}
    #: The mappings that go on, by the depth of their lines.
    mappings = [document]
    for line in text.decode(errors="replace").removesuffix("\n").split("\n"):
        found = _LINE.fullmatch(line)
        if not found or _SPECIAL & {*found.groups()}:
            return None
        depth, rest = divmod(len(found[1]), _INDENT)
        is_next = depth == len(mappings) - 1
        # After a key without a value its mapping has to come.
        if rest or (
            not is_next and (depth >= len(mappings) or not mappings[-1])
        ):
            return None
        del mappings[depth + 1 :]
        key, value = found[2], found[3]
        if key in mappings[-1] or key in _BOOLEANS:
            return None
        if value and value != "{}":
            mappings[-1][key] = _BOOLEANS.get(value, value)
            continue
        inner: dict[str, Any] = {}
        mappings[-1][key] = inner
        if not value:
            mappings.append(inner)
    return document if mappings[-1] else None
