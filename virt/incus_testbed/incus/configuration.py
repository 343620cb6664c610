# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the configuration of the incus command, which is YAML."""

import contextlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any


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
    # Imported here: it is slow, and there may be no such file.
    import yaml  # noqa: PLC0415

    with contextlib.suppress(yaml.YAMLError):
        document = yaml.safe_load(text)
        if isinstance(document, dict):
            return document
    return None
