# SPDX-License-Identifier: GPL-3.0-or-later
"""The command refresh."""

import argparse
from datetime import timedelta

from incus_testbed.cli import output
from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus
from incus_testbed.refresh import age
from incus_testbed.refresh import refresh as module

_ANY = timedelta()


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
