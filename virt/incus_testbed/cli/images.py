# SPDX-License-Identifier: GPL-3.0-or-later
"""Describe images, for tables and for programs."""

from collections.abc import Iterable

from incus_testbed.customise import vm
from incus_testbed.image import properties
from incus_testbed.incus.records import Image

Facts = dict[str, object]

IMAGE_HEADINGS = (
    *("ALIAS", "TYPE", "SYSTEM", "ARCHITECTURE", "SIZE"),
    *("IMPORTED", "LAST USED"),
)


def image_facts(image: Image) -> Facts:
    """Return an image's facts as JSON has them."""
    return {
        "aliases": list(image.aliases),
        "fingerprint": image.fingerprint,
        "architecture": image.architecture,
        "type": image.kind,
        "size": image.size,
        "unpacked_size": properties.unpacked_size(image),
        "uploaded": image.uploaded.isoformat(),
        "last_used": image.last_used.isoformat() if image.last_used else None,
        "profiles": list(image.profiles),
        "properties": dict(image.properties),
    }


def image_rows(images: Iterable[Image]) -> list[tuple[str, ...]]:
    """Return a row for each image, below IMAGE_HEADINGS."""
    return [
        (
            " ".join(image.aliases),
            _type(image),
            f"{image.properties.get('os')} {image.properties.get('release')}",
            image.architecture,
            f"{properties.disk_use(image) / 1e6:.0f} MB",
            f"{image.uploaded:%Y-%m-%d %H:%M}",
            f"{image.last_used:%Y-%m-%d %H:%M}" if image.last_used else "never",
        )
        for image in images
    ]


def _type(image: Image) -> str:
    """Return the image's type, and what starts Incus' agent in it."""
    agent = image.properties.get(vm.AGENT)
    if agent == vm.ASSUMED:
        return f"{image.kind}, agent {agent}"
    return f"{image.kind}, agent by {agent}" if agent else image.kind
