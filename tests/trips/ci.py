# SPDX-License-Identifier: GPL-3.0-or-later
"""A CI job: a machine that is thrown away tests a package in a tarball."""

from tests.trips.needs import TESTBED
from tests.trips.trip import Preparation, Step, Trip

_SOURCE = "tests/packages/hello-testbed"
_PACKAGE = {"PACKAGE": _SOURCE}
_ONE_TEST = {"PACKAGE": f"{_SOURCE} --test-name=as-user"}
_SYSTEM = {"system.tar.xz": "../system.tar.zst"}

CI = Trip(
    "ci",
    (
        Step("apt install ../incus-testbed_*.deb"),
        Step("incus-testbed setup"),
        Step(
            "incus-testbed import system.tar.xz --alias artifact/42",
            values=_SYSTEM,
        ),
        Step("incus-testbed images", "artifact/42"),
        Step(
            "incus-testbed run artifact/42 -- COMMAND...",
            "testbed-",
            {"COMMAND...": "cat /etc/hostname"},
        ),
        Step(
            "incus-testbed shell artifact/42",
            "I am root",
            types="echo I am $USER\n",
        ),
        Step(
            "autopkgtest -U PACKAGE -- incus-testbed artifact/42",
            "as-user +PASS",
            _PACKAGE,
        ),
        Step(
            "autopkgtest -U PACKAGE -- incus-testbed system.tar.xz",
            "as-user +PASS",
            {**_ONE_TEST, **_SYSTEM},
        ),
        Step(
            "autopkgtest -U PACKAGE -- incus-testbed artifact/42"
            " -c security.nesting=true -c security.privileged=true",
            "as-user +PASS",
            _ONE_TEST,
        ),
        Step("incus-testbed remove artifact/42"),
        Preparation(
            "a testbed that has ended is removed in the background; in a pool"
            " that does not clone, that takes some seconds",
            "timeout 60 sh -c 'while incus list --format=csv | grep .; do"
            " sleep 1; done'",
        ),
        # All that is left.
        Step(
            "incus-testbed remove ALIAS",
            values={"ALIAS": "$(incus image list --format=csv --columns=l)"},
        ),
        Step("incus profile delete debusine"),
        Step("incus profile delete debusine-vm"),
        Step("incus network delete debusinebr0"),
        Step("incus storage delete default"),
    ),
    packages=TESTBED,
    tarball=True,
)

# Apart, because it takes minutes, and make e2e runs the first.
SBUILD = Trip(
    "sbuild",
    (
        *CI.steps[:3],
        Preparation(
            "a source package",
            f"cp -r {_SOURCE} ../source;"
            " dpkg-source --build ../source; mv hello-testbed_* ..",
        ),
        Step(
            "sbuild --dist=trixie --chroot-mode=autopkgtest"
            " --autopkgtest-virt-server=autopkgtest-virt-incus-testbed"
            " --autopkgtest-virt-server-opt=artifact/42 PACKAGE.dsc",
            "Status: successful",
            {"PACKAGE.dsc": "--verbose ../hello-testbed_1.dsc"},
        ),
    ),
    packages=(*TESTBED, "dpkg-dev", "sbuild"),
    tarball=True,
)
