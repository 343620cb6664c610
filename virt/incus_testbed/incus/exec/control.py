# SPDX-License-Identifier: GPL-3.0-or-later
"""A command's life and signals, which its websocket control is for."""

import json
import os
import select
import signal

from .api import CHUNK
from .forked import die, on_signals
from .websocket import TEXT, Websocket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .streams import Interests


class Control:
    """What keeps the command running: it is killed when this is closed."""

    def __init__(self, websocket: Websocket) -> None:
        """Keep it running."""
        self._websocket = websocket

    def interests(self) -> "Interests":
        """Return what to wait for."""
        if self._websocket.open:
            yield self._websocket.fd, select.POLLIN, self._receive
            if not self._websocket.idle:
                yield self._websocket.fd, select.POLLOUT, self._websocket.flush

    def send_signal(self, number: int) -> None:
        """Send a signal to the command."""
        message = json.dumps({"command": "signal", "signal": number})
        self._websocket.send(TEXT, message.encode())

    def _receive(self) -> None:
        """Notice the end of the command."""
        for _ in self._websocket.receive():
            pass


class Signals(Control):
    """Signals: from this process to the command."""

    def __init__(self, websocket: Websocket) -> None:
        """Forward from now on what is not ignored."""
        super().__init__(websocket)
        self._signals, alarm = os.pipe()
        os.set_blocking(alarm, False)
        signal.set_wakeup_fd(alarm, warn_on_full_buffer=False)
        on_signals(lambda *_: None)

    def interests(self) -> "Interests":
        """Return what to wait for."""
        yield self._signals, select.POLLIN, self._forward
        yield from super().interests()

    def _forward(self) -> None:
        for number in os.read(self._signals, CHUNK):
            if not self._websocket.open:  # the command has ended: it is for us
                die(number)
            self.send_signal(number)
