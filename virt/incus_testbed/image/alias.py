# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of images in Incus."""

import re

from incus_testbed import errors

_ARTIFACT = "artifact/"
_CONTENT = "tarball/"

#: Characters of an alias; Incus itself has no limit.
_LONGEST = 200


def of_artifact(number: int) -> str:
    """Return the alias of the image of a Debusine artifact."""
    return f"{_ARTIFACT}{number}"


def of_content(sha256: str) -> str:
    """Return an alias made from the SHA-256 (hexadecimal) of a file."""
    return f"{_CONTENT}{sha256[:16]}"


def is_of_file(alias: str) -> bool:
    """Tell whether an alias names the image of one file: these never change.

    Artifacts of Debusine don't, and an alias may be made from the content.
    """
    return alias.startswith((_ARTIFACT, _CONTENT))


def artifact(alias: str) -> str:
    """Return the number of the artifact that an alias names, or the alias."""
    return alias.removeprefix(_ARTIFACT)


def check(alias: str) -> None:
    """Refuse a name that Incus would not treat as an alias.

    Incus 7.0 allows fewer characters than 6.0.

    :raises errors.BadImage: it isn't a name such as artifact/42
    """
    valid = re.fullmatch(r"[A-Za-z0-9][\w./~-]*", alias, re.ASCII)
    if not valid or len(alias) > _LONGEST:
        raise errors.BadImage(
            f"{alias[:_LONGEST]!r} can't be an alias",
            resolution="Use one such as artifact/42: letters, digits and any"
            f" of . / ~ _ -, at most {_LONGEST} characters",
        )
