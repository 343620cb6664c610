# SPDX-License-Identifier: GPL-3.0-or-later
"""Which documented command is run by what."""

from tests.trips import TRIPS, elsewhere, pages

#: The commands that trips run, with the names of those.
RUN_BY_TRIPS = {
    command: ", ".join(t.name for t in TRIPS if command in t.commands)
    for trip in TRIPS
    for command in trip.commands
}
#: The commands that other tests run, with those tests.
RUN_BY_TESTS = elsewhere.TESTED | {
    command: elsewhere.READ[place]
    for command, places in pages.commands().items()
    for place in places
    if place in elsewhere.READ
}


def lines() -> list[str]:
    """Return a line for each documented command: who runs it, and where it is.

    The last line counts them.
    """
    each = [
        f"{command}\n    {_runner(command)} [{'; '.join(places)}]"
        for command, places in pages.commands().items()
    ]
    return [*each, summary()]


def summary() -> str:
    """Return how many commands there are, and how many of them are run."""
    tests = len(RUN_BY_TESTS.keys() - RUN_BY_TRIPS.keys())
    return (
        f"{len(pages.commands())} documented commands:"
        f" {len(RUN_BY_TRIPS)} run by trips, {tests} by other tests,"
        f" {len(elsewhere.NOT_RUN)} not run, for a reason"
    )


def _runner(command: str) -> str:
    if names := RUN_BY_TRIPS.get(command):
        return names
    if test := RUN_BY_TESTS.get(command):
        return f"{test.file}::{test.function}"
    return f"not run: {elsewhere.NOT_RUN.get(command, 'UNKNOWN')}"
