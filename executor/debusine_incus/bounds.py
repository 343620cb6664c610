# SPDX-License-Identifier: GPL-3.0-or-later
"""Read the admin's limits for the images that may stay in Incus."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from incus_testbed.limits import settings

#: Environment variables: a count, and a size in bytes.
KEEP = "DEBUSINE_INCUS_KEEP_IMAGES"
MAX_BYTES = "DEBUSINE_INCUS_MAX_IMAGE_BYTES"


@dataclass(frozen=True, kw_only=True)
class Bounds:
    """The limits of evictable images; above them the oldest are removed."""

    keep: int = 10
    max_bytes: int = 10 << 30

    @classmethod
    def from_environment(
        cls, environment: Mapping[str, str] = os.environ
    ) -> Self:
        """Read the bounds; those that are not set have their usual values.

        :raises errors.Unsupported: a value is not a whole number
        """
        return cls(
            keep=settings.number(KEEP, cls.keep, environment),
            max_bytes=settings.number(MAX_BYTES, cls.max_bytes, environment),
        )
