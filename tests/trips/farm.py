# SPDX-License-Identifier: GPL-3.0-or-later
"""An admin of a farm: many images, limits, networks, devices and users."""

from tests.trips.needs import TESTBED
from tests.trips.trip import Preparation, Step, Trip

_ONE_TEST = {
    "PACKAGE": "tests/packages/hello-testbed --test-name=as-user",
}
_MIRROR = "$(cat /etc/apt/sources.list.d/* | sed -n 's/^URIs: //p;T;q')"
_TESTED = "as-user +PASS"

FARM = Trip(
    "farm",
    (
        Step("apt install ../incus-testbed_*.deb"),
        Step("incus-testbed setup"),
        Preparation("a user", "adduser --disabled-password --comment '' them"),
        Step("incus-testbed setup --restricted USER", "", {"USER": "them"}),
        # Images.
        Step("incus-testbed build trixie"),
        Step(
            "autopkgtest PACKAGE -- incus-testbed"
            " autopkgtest/debian/trixie/amd64",
            _TESTED,
            _ONE_TEST,
        ),
        Step(
            "incus-testbed build sid --arch=i386 --include=build-essential,git"
        ),
        Step("incus-testbed build trixie-backports --components=main,contrib"),
        Step(
            "incus-testbed build bookworm --mirror=http://mirror.example/debian",
            values={"http://mirror.example/debian": _MIRROR},
        ),
        Step("autopkgtest-build-incus-testbed sid"),
        Step(
            "autopkgtest PACKAGE -- incus-testbed autopkgtest/debian/sid/amd64",
            _TESTED,
            _ONE_TEST,
        ),
        # The same images, up to date; a testbed that is set up once.
        Step("incus-testbed refresh autopkgtest/debian/sid/amd64"),
        Step(
            "incus-testbed refresh --max-age=12h autopkgtest/debian/sid/amd64"
        ),
        Step(
            "incus-testbed run --max-age=1d autopkgtest/debian/sid/amd64"
            " -- cat /etc/os-release",
            "forky|sid",
        ),
        *(
            Step(
                "autopkgtest ./hello-testbed/ -- incus-testbed"
                f" autopkgtest/debian/sid/amd64 {options}",
                _TESTED,
                folder="tests/packages",
            )
            for options in (
                "--max-age=1d",
                "--warm",
                "--warm --warm-commands 'apt-get install --yes fakeroot'",
            )
        ),
        *(
            Step(
                "autopkgtest PACKAGE -- incus-testbed"
                f" autopkgtest/debian/sid/amd64 {options}",
                _TESTED,
                _ONE_TEST,
            )
            for options in ("--max-age 1d", "--warm")
        ),
        # Disks, which nothing starts here.
        Step("apt install dosfstools e2fsprogs fdisk libarchive-tools mtools"),
        Step("incus-testbed build trixie --vm"),
        Step("incus-testbed images", "autopkgtest/debian/trixie/amd64/vm"),
        Step("autopkgtest-build-incus-testbed sid --vm"),
        # Devices.
        Step("incus-testbed build trixie --alias trixie"),
        Step("incus profile create fuse"),
        Step(
            "incus profile device add fuse fuse unix-char path=/dev/fuse"
            " mode=0666"
        ),
        Step(
            "incus-testbed run --launch-argument=--profile=debusine"
            " --launch-argument=--profile=fuse trixie -- ls -l /dev/fuse",
            "crw-rw-rw-.*/dev/fuse",
        ),
        Step(
            "autopkgtest PACKAGE -- incus-testbed trixie --profile=debusine"
            " --profile=fuse",
            _TESTED,
            _ONE_TEST,
        ),
        Step("incus profile create gpu"),
        Step("incus profile device add gpu gpu gpu"),
        # Another machine's Incus, which is this machine's.
        Step("incus config set core.https_address=:8443"),
        Step("incus config trust add laptop --quiet", "^[A-Za-z0-9+/=]{80,}"),
        Step(
            "incus remote add farm TOKEN",
            values={"TOKEN": "$(incus config trust add other --quiet)"},
        ),
        Step("incus-testbed --remote=farm build trixie --alias trixie"),
        Step(
            "autopkgtest PACKAGE -- incus-testbed --remote=farm trixie",
            _TESTED,
            _ONE_TEST,
        ),
        # A proxy of apt.
        Step("apt install apt-cacher-ng"),
        Preparation(
            "apt-cacher-ng finds no name server in a nested machine: another"
            " proxy stands in for it",
            "systemctl stop apt-cacher-ng; apt-get install tinyproxy;"
            " sed -i 's/^Port .*/Port 3142/;/^Allow /d;/^ConnectPort /d'"
            " /etc/tinyproxy/tinyproxy.conf; systemctl restart tinyproxy",
        ),
        Step(
            "echo 'Acquire::http::Proxy \"http://127.0.0.1:3142\";'"
            " >/etc/apt/apt.conf.d/proxy"
        ),
        Step(
            "bridge=$(incus network get debusinebr0 ipv4.address) &&"
            ' incus-testbed setup --allow "${bridge%/*}:3142"',
            "network-acls",
        ),
        Step("incus-testbed build trixie --alias trixie"),
        Step(
            "incus-testbed run trixie -- apt-get update",
            "Hit|Get",
        ),
        # Limits, and where testbeds may go.
        Step("incus-testbed setup --close-private", "network-acls"),
        Step("incus-testbed setup --allow 192.168.1.5:3142", "network-acls"),
        Step("incus profile set debusine limits.memory=16GiB"),
        Step("incus profile device set debusine root size=200GiB"),
        Step("incus profile set debusine user.incus-testbed.limits=none"),
        Step("incus profile device unset debusine root size"),
        Step("incus profile set debusine security.syscalls.deny="),
        Step("incus network set debusinebr0 user.incus-testbed.acl=none"),
        Step("incus network unset debusinebr0 security.acls"),
    ),
    packages=TESTBED,
)
