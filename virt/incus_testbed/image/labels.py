# SPDX-License-Identifier: GPL-3.0-or-later
"""Name and describe an image: what its importer says of it."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Labels:
    """What the caller knows about an image; None is read from the image.

    ``architecture`` is Debian's name.  Labels only name and describe: the
    content of an image decides what it needs.  ``evictable``: the image can be
    made again of what its alias tells (alias.is_of_file()), so it may be
    removed for space.
    """

    artifact_id: str | None = None
    codename: str | None = None
    vendor: str | None = None
    architecture: str | None = None
    description: str | None = None
    evictable: bool = False
