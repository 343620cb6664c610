# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line of a session."""

import os
import signal
import sys

from . import address
from .api import Failure
from .command import request, run
from .forked import settle
from .streams import Ends, complain

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

#: The exit status where the command could not be run.
OWN_FAILURE = 125


def split(argv: "Sequence[str]") -> tuple[dict[str, str], list[str]]:
    """Return a command line's options and words."""
    options: dict[str, str] = {}
    words = list(argv)
    while words and words[0].startswith("--"):
        name, _, value = words.pop(0)[2:].partition("=")
        options[name] = value
    return options, words


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
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    settle()
    options, (instance, *command) = split(argv)
    first = b""
    # A worker of an older version starts this program after an upgrade.
    if "first" in options:
        with os.fdopen(int(options["first"]), "rb") as file:
            first = file.read()
    # As incus exec does.  Anything else would be on a command line of incusd's.
    terminal = os.environ.get("TERM")
    environment = {} if terminal is None else {"TERM": terminal}
    try:
        return run(
            address.of(options),
            instance,
            options["project"],
            request(command, environment),
            ends=Ends(0, 1, 2, signals=True),
            first=first,
        )[0]
    except Failure as failure:
        complain(str(failure))
    return None
