# SPDX-License-Identifier: GPL-3.0-or-later
"""The option --max-age of commands that use an image."""

import argparse
from datetime import timedelta

from incus_testbed import errors
from incus_testbed.cli import output
from incus_testbed.incus.client import Incus
from incus_testbed.refresh import age

_BEFORE_USE = (
    "if the image is older than AGE, such as 1d, 12h or 30m, refresh it first"
)


def add_option(
    command: argparse.ArgumentParser, text: str = _BEFORE_USE
) -> None:
    """Add the option to a command."""
    command.add_argument("--max-age", metavar="AGE", type=_age, help=text)


def _age(text: str) -> timedelta:
    try:
        return age.parse(text)
    except errors.TestbedError as error:
        raise argparse.ArgumentTypeError(
            f"{error.brief}. {error.resolution}"
        ) from None


def ensure(incus: Incus, alias: str, max_age: timedelta | None) -> None:
    """Refresh an image that is older than ``max_age``, if that is given.

    :raises errors.TestbedError: it can't be refreshed
    """
    if max_age is None:
        return
    # Imported here: most testbeds need it not, and start faster so.
    from incus_testbed.refresh.refresh import ensure as refresh  # noqa: PLC0415

    with output.steps(f"Refreshing {alias}") as on_step:
        refresh(incus, alias, max_age, on_step)
