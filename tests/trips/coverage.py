# SPDX-License-Identifier: GPL-3.0-or-later
"""Which documented command is run by what."""

from tests.trips import TRIPS, elsewhere, pages

#: The commands that trips run, with the names of those.
RUN_BY_TRIPS = {
    command: ", ".join(t.name for t in TRIPS if command in t.commands)
    for trip in TRIPS
    for command in trip.commands
}


def lines() -> list[str]:
    """Return a line for each documented command: who runs it, and where it is.

    The last line counts them.
    """
    found = pages.commands()
    runners = {
        command: RUN_BY_TRIPS.get(command)
        or _elsewhere(command)
        or "NOBODY RUNS IT"
        for command in found
    }
    each = [
        f"{command}\n    {runners[command]} [{', '.join(found[command])}]"
        for command in found
    ]
    return [*each, summary()]


def summary() -> str:
    """Return how many commands there are, and how many of them are run."""
    trips = len(RUN_BY_TRIPS)
    tested = len(elsewhere.TESTED)
    left_out = len(elsewhere.NOT_RUN)
    return (
        f"{len(pages.commands())} documented commands: {trips} run by trips,"
        f" {tested} by other tests, {left_out} not run, for a reason"
    )


def _elsewhere(command: str) -> str:
    if test := elsewhere.TESTED.get(command):
        return f"{test.file}::{test.function}"
    if reason := elsewhere.NOT_RUN.get(command):
        return f"not run: {reason}"
    return ""
