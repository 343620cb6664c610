# SPDX-License-Identifier: GPL-3.0-or-later
"""Write and parse the converting process's messages: JSON, one on each line.

The parser trusts nothing in them: the converted file may have taken over the
process.
"""

import dataclasses
import json
import re
from dataclasses import dataclass
from typing import Any

from incus_testbed import errors
from incus_testbed.customise import last_file, vm
from incus_testbed.image.description import Description
from incus_testbed.system import architecture
from incus_testbed.system.facts import LONGEST_LABEL, MACHINE_IDS

#: Errors that a conversion can raise.
_KINDS = {
    kind.__name__: kind
    for kind in (
        errors.BadImage,
        errors.CommandFailed,
        errors.MissingProgram,
        errors.NoSpace,
        errors.TimedOut,
        errors.Unsupported,
    )
}


@dataclass(frozen=True, kw_only=True)
class Result:
    """The result of a conversion.

    ``is_source``: the source is a disk image that needs no conversion.
    ``sha256`` (hexadecimal) and ``source_size`` describe the source,
    ``unpacked_size`` is how many bytes the result takes in a storage pool.
    """

    is_source: bool
    sha256: str
    source_size: int
    unpacked_size: int
    description: Description


def progress(size: int) -> bytes:
    """Return the message that ``size`` bytes have been read."""
    return _line({"read": size})


def success(result: Result) -> bytes:
    """Return the message that the conversion is done."""
    return _line({"done": dataclasses.asdict(result)})


def failure(error: errors.TestbedError) -> bytes:
    """Return the message that the conversion failed, and why."""
    return _line(
        {
            "failed": {
                "kind": type(error).__name__,
                "brief": error.brief,
                "details": error.details,
                "resolution": error.resolution,
                "lacking": getattr(error, "lacking", 0),
            }
        }
    )


def _line(message: object) -> bytes:
    return json.dumps(message).encode() + b"\n"


def parse(line: bytes) -> int | Result:
    """Return how many bytes have been read, or the result.

    :raises errors.TestbedError: the conversion failed
    :raises ValueError: the line is not a valid message
    """
    try:
        message = json.loads(line)
        if failed := message.get("failed"):
            raise _error(failed)
        if done := message.get("done"):
            return _result(done)
        return _number(message["read"])
    except (AttributeError, KeyError, RecursionError, TypeError) as error:
        raise ValueError(str(error)) from error


def _error(failed: dict[str, Any]) -> errors.TestbedError:
    error = _KINDS[failed["kind"]](
        str(failed["brief"]),
        details=str(failed["details"]),
        resolution=str(failed["resolution"]),
    )
    if isinstance(error, errors.NoSpace):
        error.lacking = _number(failed["lacking"])
    return error


def _result(done: dict[str, Any]) -> Result:
    return Result(
        is_source=done["is_source"] is True,
        sha256=_match(r"[0-9a-f]{64}", done["sha256"]),
        source_size=_number(done["source_size"]),
        unpacked_size=_number(done["unpacked_size"]),
        description=_description(done["description"]),
    )


def _description(found: dict[str, Any]) -> Description:
    architecture.incus_name(found["architecture"])
    ids = tuple(found["machine_ids"])
    if not set(ids) <= set(MACHINE_IDS):
        raise ValueError(f"unknown files: {ids!r}")
    if found["last_file"] not in {"", *last_file.PATHS}:
        raise ValueError(f"unknown file: {found['last_file']!r}")
    properties = found["vm"]
    return Description(
        architecture=found["architecture"],
        vendor=_label(found["vendor"]),
        codename=_label(found["codename"]),
        machine_ids=ids,
        last_file=found["last_file"],
        vm=None if properties is None else _properties(properties),
    )


def _properties(found: dict[str, Any]) -> dict[str, str]:
    if not found.keys() <= vm.KEYS:
        raise ValueError(f"unknown properties: {sorted(found)!r}")
    return {
        key: _match(r"[a-z0-9]{1,20}", value) for key, value in found.items()
    }


def _label(text: object) -> str:
    return _match(rf"(?s).{{0,{LONGEST_LABEL}}}", text)


def _match(pattern: str, text: object) -> str:
    if not isinstance(text, str) or not re.fullmatch(pattern, text):
        raise ValueError(f"unexpected: {text!r}")
    return text


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError(f"unexpected: {value!r}")
    return value
