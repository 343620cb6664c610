# SPDX-License-Identifier: GPL-3.0-or-later
"""A developer at a machine of their own: from nothing to a tested package."""

from tests.trips.trip import Preparation, Step, Trip

_PACKAGE = "tests/packages/hello-testbed"
_OWN = "../own"

LAPTOP = Trip(
    "laptop",
    (
        Step("apt install ../incus-testbed_*.deb"),
        Step("incus-testbed setup", "incus profile create debusine"),
        Step("incus-testbed doctor", "ok +network debusinebr0"),
        Step("incus-testbed build trixie --alias trixie"),
        Step(
            "incus-testbed run trixie -- cat /etc/os-release",
            "VERSION_CODENAME=trixie",
        ),
        Step(
            f"autopkgtest {_PACKAGE} -- incus-testbed trixie",
            "as-user +PASS",
        ),
        Step(
            "autopkgtest PACKAGE -- incus-testbed trixie",
            "as-root +PASS",
            {"PACKAGE": f"{_PACKAGE} --test-name=as-root"},
        ),
        Preparation(
            "a package of one's own, with one test",
            f"cp -r {_PACKAGE} {_OWN}; cd {_OWN}/debian/tests;"
            " printf 'Tests: as-user\\nDepends: hello\\n' >control",
        ),
        Step(
            "autopkgtest . -- incus-testbed trixie",
            "as-user +PASS",
            folder=_OWN,
        ),
        Preparation(
            "the test fails",
            f"printf '#!/bin/sh\\nexit 1\\n' >{_OWN}/debian/tests/as-user",
        ),
        Step(
            "autopkgtest --shell-fail . -- incus-testbed trixie",
            "looked: /root\n(.*\n)*.*as-user +FAIL",
            status=4,
            folder=_OWN,
            types="echo looked: $HOME\nexit\n",
            terminal=True,
        ),
        Step(
            "incus-testbed shell trixie",
            "I am root",
            types="echo I am $USER\n",
        ),
        Step("incus-testbed status", "trixie"),
        Step("incus-testbed gc"),
        Step("incus-testbed gc --thorough"),
        Step("incus-testbed gc --keep 3"),
        Step("incus-testbed gc --max-size 20GiB"),
        Step("incus-testbed remove trixie"),
    ),
)
