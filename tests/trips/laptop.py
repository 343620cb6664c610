# SPDX-License-Identifier: GPL-3.0-or-later
"""The trip of a developer, at a machine of their own."""

from tests.trips.trip import Step, Trip

_PACKAGE = {"PACKAGE": "tests/packages/hello-testbed"}

LAPTOP = Trip(
    "laptop",
    (
        Step("apt install ../incus-testbed_*.deb"),
        Step("incus-testbed setup", "profile"),
        Step("incus-testbed doctor", "sandbox"),
        Step("incus-testbed build trixie --alias trixie"),
        Step(
            "incus-testbed run trixie -- cat /etc/os-release",
            "VERSION_CODENAME=trixie",
        ),
        Step("autopkgtest PACKAGE -- incus-testbed trixie", "PASS", _PACKAGE),
        Step(
            "incus-testbed shell trixie", "13", types="cat /etc/debian_version"
        ),
    ),
)
