# SPDX-License-Identifier: GPL-3.0-or-later
"""Someone who changes this software, in a checkout."""

from tests.trips.trip import Step, Trip

CHECKOUT = Trip(
    "checkout",
    (
        Step("apt build-dep ./"),
        Step("make deb", "incus-testbed"),
        Step("make linters"),
        Step("make unit", "passed"),
        Step("make lint"),
        Step("make format"),
        Step(
            "PYTHONPATH=virt:executor /usr/bin/python3 -m pytest"
            " tests/unit/incus -k location",
            "passed",
        ),
        Step("make demo", "PASS"),
    ),
    packages=("git", "make"),
)
