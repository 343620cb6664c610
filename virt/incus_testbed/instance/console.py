# SPDX-License-Identifier: GPL-3.0-or-later
"""Show what a guest writes to its console, while it boots.

Incus keeps the end of it; we ask for that again and again, because a client
that is attached to the console could also write to it.
"""

import contextlib
import logging
import re
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from incus_testbed import errors

if TYPE_CHECKING:
    from incus_testbed.instance.guest import Guest

log = logging.getLogger(__name__)
# A program whose user wants to see boots changes this (cli/output.py).  The log
# of a Debusine worker, which has the level INFO, is no place for them.
log.setLevel(logging.WARNING)

#: Seconds between two questions for the log.
_PAUSE = 0.5
#: Lines of one boot, and characters of a line, that are shown.
_MOST_LINES = 2000
_LONGEST_LINE = 400
#: Characters by which a log is found in a later one, which may lack its start.
_OVERLAP = 1000

#: Colours, and what else only changes how a terminal shows text (ECMA-48, CSI).
_STYLE = re.compile(r"\x1b\[[0-9;?]{0,16}[A-Za-z]")


def read(guest: "Guest") -> str:
    """Return the end of what a guest wrote to its console, without colours.

    :raises errors.TestbedError: Incus has no log of it
    """
    text = guest.incus.console_log(guest.name)
    # systemd overwrites the line of a job that takes long.
    return _STYLE.sub("", text).replace("\r\n", "\n").replace("\r", "\n")


@contextlib.contextmanager
def shown(guest: "Guest", *, only_new: bool = False) -> Iterator[None]:
    """Log the lines that a guest writes to its console meanwhile.

    They are messages of the level INFO.  If nobody sees these, it does nothing.
    With ``only_new``, what is in the log at first is left out.
    """
    if not log.isEnabledFor(logging.INFO):
        yield
        return
    follower = _Follower(guest)
    if only_new:
        follower.skip()
    over = threading.Event()
    thread = threading.Thread(
        target=follower.follow, args=(over,), name="console", daemon=True
    )
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


class _Follower:
    """Finds the new lines in each answer."""

    def __init__(self, guest: "Guest") -> None:
        self._guest = guest
        self._seen = ""
        self._open = ""
        self._lines = 0

    def skip(self) -> None:
        """Take what is there as seen."""
        self._seen = self._read()

    def follow(self, over: threading.Event) -> None:
        """Log new lines until ``over``, and then what has come last."""
        while self._lines < _MOST_LINES and not over.wait(_PAUSE):
            self._show()
        self._show()
        if self._open:
            self._say(self._open)

    def _show(self) -> None:
        text = self._read()
        if not text:
            return
        *lines, self._open = (self._open + new(self._seen, text)).split("\n")
        self._seen = text
        if len(self._open) > _LONGEST_LINE:  # it may never end
            lines.append(self._open)
            self._open = ""
        for line in lines:
            self._say(line)

    def _say(self, line: str) -> None:
        line = line.rstrip()
        if not line or self._lines > _MOST_LINES:
            return
        self._lines += 1
        if self._lines > _MOST_LINES:
            log.info("%s: the rest is not shown", self._guest.name)
            return
        cut = " ..." if len(line) > _LONGEST_LINE else ""
        log.info("%s: %s%s", self._guest.name, line[:_LONGEST_LINE], cut)

    def _read(self) -> str:
        try:
            return read(self._guest)
        except errors.TestbedError as error:
            log.debug("%s: no console log: %s", self._guest.name, error.brief)
            return ""


def new(before: str, now: str) -> str:
    """Return what ``now`` has after all of ``before``.

    ``now`` may lack the start of ``before``.  If it lacks the end, too, it is a
    new log.
    """
    if now.startswith(before):
        return now[len(before) :]
    end = before[-_OVERLAP:]
    place = now.rfind(end)
    return now[place + len(end) :] if place >= 0 else now
