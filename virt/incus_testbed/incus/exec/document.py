# SPDX-License-Identifier: GPL-3.0-or-later
"""JSON, by the parts of the standard library that are quick to import."""

import _json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class _Grammar:
    """What json's scanner wants to be told: plain JSON."""

    strict = True
    object_hook = object_pairs_hook = array_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float


_scan = _json.make_scanner(_Grammar)  # type: ignore[arg-type]
_quoted = _json.encode_basestring_ascii


def decode(text: str) -> "Any":
    """Return what a JSON document says.

    :raises ValueError: it is not one
    """
    try:
        return _scan(text, 0)[0]
    except StopIteration:
        raise ValueError("not JSON") from None
    except RecursionError:
        raise ValueError("JSON that is nested too deeply") from None


def encode(value: "Any") -> str:
    """Return lists, dicts, strings, numbers and truth values as JSON."""
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        pairs = (f"{_quoted(key)}:{encode(value[key])}" for key in value)
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(encode, value)) + "]"
    return str(int(value))
