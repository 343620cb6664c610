# SPDX-License-Identifier: GPL-3.0-or-later
"""Write and read the order to the converting process, as JSON."""

import base64
import dataclasses
import json
from dataclasses import dataclass
from typing import Self

from incus_testbed.image.fits import Place
from incus_testbed.image.labels import Labels
from incus_testbed.image.stream import compression
from incus_testbed.limits.budget import Budget
from incus_testbed.system.architecture import Supported


@dataclass(frozen=True, kw_only=True)
class Order:
    """Everything that a conversion depends on, beside the file itself.

    ``supported`` are the architectures that the server runs.
    ``size`` is the file's size in bytes, 0 if unknown.  ``date`` is the mtime
    of the added files, in seconds since 1970.  ``generator`` replaces the
    systemd generator that is added.  ``form`` is the program that compresses a
    tarball: a key of compression.FORMS.
    """

    label: Labels
    supported: Supported
    place: Place
    budget: Budget
    date: int
    size: int = 0
    generator: bytes | None = None
    form: str = compression.ZSTD.program

    def to_json(self) -> bytes:
        """Return the order as JSON; it holds nothing confidential."""
        fields = dataclasses.asdict(self)
        if self.generator is not None:
            fields["generator"] = base64.b64encode(self.generator).decode()
        return json.dumps(fields).encode()

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read an order that to_json() wrote."""
        fields = json.loads(text)
        generator = fields.pop("generator")
        return cls(
            label=Labels(**fields.pop("label")),
            supported=Supported(**fields.pop("supported")),
            place=Place(**fields.pop("place")),
            budget=Budget(**fields.pop("budget")),
            generator=generator and base64.b64decode(generator),
            **fields,
        )
