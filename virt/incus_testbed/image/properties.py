# SPDX-License-Identifier: GPL-3.0-or-later
"""Write and read image properties: labels for users, keys for this software."""

import re

from incus_testbed.image.labels import Labels
from incus_testbed.incus.records import Image
from incus_testbed.ownership.owner import Owner

# Image properties: the alias that the image was made for, the process that
# made it, and the SHA-256 of its file.
_ALIAS = "incus-testbed.alias"
_OWNER = "incus-testbed.owner"
_SOURCE = "incus-testbed.sha256"
# The image's creation_date.  'incus publish' copies the properties of an
# instance's image to an image with other content and another date.
_CREATED = "incus-testbed.created"
# Bytes that it takes in a storage pool, once an instance was made of it.
_UNPACKED = "incus-testbed.unpacked-size"
# Set if the image has a systemd generator that the user gave.
_GENERATOR = "incus-testbed.own-generator"
#: This property is set if the image may be removed for space.
EVICTABLE = "incus-testbed.evictable"


def properties(
    alias: str,
    *,
    source: str,
    date: int,
    evictable: bool,
    unpacked: int,
    own_generator: bool = False,
) -> dict[str, str]:
    """Return the properties of an image that this process makes now.

    ``source`` is the SHA-256 of its file, ``date`` the image's creation date,
    ``unpacked`` the bytes that it takes in a storage pool.
    """
    return {
        _ALIAS: alias,
        _OWNER: str(Owner.current()),
        _SOURCE: source,
        _CREATED: str(date),
        _UNPACKED: str(unpacked),
        **({EVICTABLE: "true"} if evictable else {}),
        **({_GENERATOR: "true"} if own_generator else {}),
    }


def labels(image: Image) -> Labels:
    """Return an image's labels, for another image that takes its place.

    The number of its artifact is left out: the other one has other content.
    """
    return Labels(
        codename=image.properties.get("release"),
        vendor=image.properties.get("os"),
        description=image.properties.get("description"),
        evictable=EVICTABLE in image.properties,
    )


def is_ours(image: Image) -> bool:
    """Tell whether this software imported an image."""
    created = str(int(image.created.timestamp()))
    return image.properties.get(_CREATED) == created


def removal(image: Image) -> str:
    """Return the command that removes an image, without the alias."""
    return "incus-testbed remove" if is_ours(image) else "incus image delete"


def alias(image: Image) -> str | None:
    """Return the alias that this software imported an image for."""
    return image.properties.get(_ALIAS) if is_ours(image) else None


def source(image: Image) -> str | None:
    """Return the SHA-256 of the file that this software made an image from."""
    return image.properties.get(_SOURCE) if is_ours(image) else None


def unpacked_size(image: Image) -> int:
    """Return the bytes that an image takes in a pool; 0 if not known."""
    text = image.properties.get(_UNPACKED, "") if is_ours(image) else ""
    return int(text) if re.fullmatch(r"[0-9]{1,18}", text) else 0


def disk_use(image: Image) -> int:
    """Return the bytes that an image takes in total.

    That is its file in Incus' store and, once an instance was made of it, its
    unpacked copy in the storage pool.
    """
    return image.size + unpacked_size(image)


def has_own_generator(image: Image) -> bool:
    """Tell whether the user gave the image's systemd generator."""
    return _GENERATOR in image.properties


def is_evictable(image: Image) -> bool:
    """Tell whether an image may be removed for space.

    An image to which somebody gave another name is kept.
    """
    return EVICTABLE in image.properties and image.aliases == (alias(image),)


def unfinished_by(image: Image) -> Owner | None:
    """Return the process that has to name an image; None if none has to."""
    if image.aliases or not is_ours(image):
        return None
    return Owner.parse(image.properties.get(_OWNER, ""))
