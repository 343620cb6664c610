# SPDX-License-Identifier: GPL-3.0-or-later
"""The command refresh."""

import argparse
from datetime import timedelta

from incus_testbed.cli import completion, max_age, output
from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus
from incus_testbed.refresh import age
from incus_testbed.refresh import refresh as module

_ANY = timedelta()


def add_command(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]",
) -> None:
    """Add the command."""
    command = commands.add_parser(
        "refresh",
        help="bring an image up to date",
        description="Bring an image for containers up to date with its own"
        " apt: update, dist-upgrade, autoremove and clean, in an instance. The"
        " result replaces the image when it is complete. If something fails,"
        " nothing changes.",
    )
    max_age.add_option(
        command, "only if it is older than AGE, such as 1d, 12h or 30m"
    )
    completion.add_alias(command)


def refresh(incus: Incus, arguments: argparse.Namespace) -> int:
    """Do what the command is for."""
    alias = arguments.alias
    with output.steps(f"Refreshing {alias}") as on_step:
        is_new = module.refresh(
            incus, alias, max_age=arguments.max_age or _ANY, on_step=on_step
        )
    if is_new:
        output.say(f"{alias} is refreshed")
    else:
        made = age.text(age.of(Store(incus).found(alias)))
        output.say(f"{alias} is fresh: it is {made} old")
    return 0
