# SPDX-License-Identifier: GPL-3.0-or-later
"""A socket whose connections are served in threads of their own."""

import socket
import threading
from collections.abc import Callable
from pathlib import Path

#: Generous: it only keeps a hanging test from hanging the run.
_LIMIT = 60


class Listener:
    """Accepts connections until it is closed."""

    def __init__(
        self,
        listening: socket.socket,
        serve: Callable[[socket.socket], None],
    ) -> None:
        """Have ``serve`` called with each connection."""
        self._listening = listening
        self._serve = serve
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @classmethod
    def at(
        cls, path: Path, serve: Callable[[socket.socket], None]
    ) -> "Listener":
        """Listen at a path."""
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(path))
        listening.listen()
        return cls(listening, serve)

    def close(self) -> None:
        """Stop listening.

        Closed alone, the number of the descriptor that accept() waits for may
        soon be that of another socket, whose connections it would take.
        """
        self._listening.shutdown(socket.SHUT_RDWR)
        self._accepting.join(_LIMIT)
        self._listening.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(
                target=self._serve, args=(connection,), daemon=True
            ).start()
