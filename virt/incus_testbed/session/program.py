# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of a session."""

import _signal  # type: ignore[import-not-found]
import os
import sys
import time

from . import document
from .api import CHUNK, LIMIT, TIMED_OUT, Failure, NotStarted, quoted
from .command import Session, complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

#: How often a command is tried that did not start, and seconds between.
_TRIES, _PAUSE = 3, 0.05
#: The exit status where the command could not be run.
OWN_FAILURE = 125


def occupy_standard_streams() -> None:
    """Have descriptors 0, 1 and 2 open, so that no socket gets their number."""
    fd = 0
    while fd <= 2:  # noqa: PLR2004
        fd = os.open("/dev/null", os.O_RDWR)
    os.close(fd)


def utf8(word: str) -> str:
    """Return a word of the command line as what JSON can carry.

    :raises Failure: it cannot
    """
    try:
        return os.fsencode(word).decode()
    except UnicodeDecodeError:
        raise Failure(
            f"Incus can pass on UTF-8 only, not {os.fsencode(word)!r}"
        ) from None


def request(
    options: "dict[str, str]", environment: "dict[str, str]", command: list[str]
) -> str:
    """Return the request that starts a command: InstanceExecPost."""
    fields: dict[str, Any] = {
        "command": [utf8(word) for word in command],
        "environment": {
            utf8(name): utf8(value) for name, value in environment.items()
        },
        "interactive": False,
        "wait-for-websocket": True,
        "user": int(options.get("user", 0)),
        "group": int(options.get("group", 0)),
        "cwd": utf8(options.get("cwd", "")),
    }
    return document.encode(fields)


def split(argv: "Sequence[str]") -> tuple[dict[str, str], list[str]]:
    """Return a command line's options and words."""
    options: dict[str, str] = {}
    words = list(argv)
    while words and words[0].startswith("--"):
        name, _, value = words.pop(0)[2:].partition("=")
        options[name] = value
    return options, words


def read(fd: int) -> bytes:
    """Return all that can be read from a descriptor."""
    parts = []
    while part := os.read(fd, CHUNK):
        parts.append(part)
    return b"".join(parts)


def run(path: str, instance: str, query: str, body: str, first: bytes) -> int:
    """Run a command to its end, with ``first`` before its input.

    Return its status.  One that did not start is tried again, with the same
    input.

    :raises Failure: it was not run, or not to its end as far as is known
    :raises TimeoutError: it was not run: the daemon does not answer
    """
    tries = _TRIES
    while True:
        tries -= 1
        session = None
        try:
            session = Session(path, instance, query, body, first)
            return session.run()
        except NotStarted:
            taken = session.taken if session else first
            if not tries or taken is None:
                raise
            first = taken
        time.sleep(_PAUSE)


def main() -> None:
    """Run the command that the command line asks for; never return."""
    status = outcome(sys.argv[1:])
    # At once: nothing is buffered, and the server sees closed connections.
    os._exit(OWN_FAILURE if status is None else status)


def outcome(argv: "Sequence[str]") -> int | None:
    """Run the command that a command line asks for; return its status.

    None, and a line on standard error, where it was not run, or not to its end
    as far as is known.
    """
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:
        _signal.signal(_signal.SIGINT, _signal.SIG_DFL)
    occupy_standard_streams()
    options, (instance, *command) = split(argv)
    # As incus exec does.  Anything else would be on a command line of incusd's.
    terminal = os.environ.get("TERM")
    environment = {} if terminal is None else {"TERM": terminal}
    try:
        return run(
            options["socket"],
            quoted(instance),
            f"?project={quoted(options['project'])}",
            request(options, environment, command),
            read(int(options["first"])) if "first" in options else b"",
        )
    except Failure as failure:
        complain(str(failure))
    except TimeoutError:
        complain(f"{TIMED_OUT}no answer within {LIMIT:g} s")
    except OSError as error:
        complain(f"unexpected EOF: lost the Incus daemon: {error}")
    return None
