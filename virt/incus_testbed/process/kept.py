# SPDX-License-Identifier: GPL-3.0-or-later
"""Keep what a program prints, up to a limit."""

import io
from collections.abc import Callable
from typing import Any

#: Bytes of an answer.  The longest are lists of thousands of instances; a guest
#: that prints without end would fill the memory.
MOST = 256 << 20


class Kept(io.BytesIO):
    """What a program prints, up to a limit; beyond it, ``stop`` is called."""

    def __init__(self, stop: Callable[[], None]) -> None:
        """Keep nothing yet; ``is_full`` tells that there was too much."""
        super().__init__()
        self._stop = stop
        self.is_full = False

    def write(self, data: Any, /) -> int:
        """Keep it, or drop it if there is too much."""
        self.is_full = self.is_full or self.tell() + len(data) > MOST
        if not self.is_full:
            return super().write(data)
        self._stop()
        return len(data)
