# SPDX-License-Identifier: GPL-3.0-or-later
"""From a bare Debian machine to a test in a testbed, and back."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from incus_testbed.client import Incus
from tests import images
from tests.e2e import guest
from tests.e2e.guest import Guest
from tests.e2e.packages import Packages, build

_HERE = Path(__file__).resolve()
_PACKAGE = _HERE.parents[1] / "packages" / "hello-testbed"
_SUITES = ("bookworm", "trixie", "sid")
_NAMES = ("incus-testbed", "debusine-worker-incus")


@pytest.fixture(scope="module")
def suite(request: pytest.FixtureRequest) -> str:
    """Return the Debian that a test is about."""
    return str(request.param)


@pytest.fixture(scope="module")
def packages(
    suite: str,
    incus_environment: object,
    tmp_path_factory: pytest.TempPathFactory,
) -> Packages:
    """Build our packages there."""
    del incus_environment
    return build(Incus(), suite, tmp_path_factory.mktemp(suite))


@pytest.fixture(scope="module")
def machine(suite: str, packages: Packages) -> Iterator[Guest]:
    """Give a bare machine beside which our packages lie."""
    with guest.running(Incus(), suite, ()) as bare:
        for file in packages.files:
            bare.push(file, "/root/debs")
        bare.push(_PACKAGE, "/root")
        if suite == "bookworm":
            bare.push(_HERE.parent / "guest" / "backports.sh", "/root")
            bare.run("/root/backports.sh")
        yield bare


def _sh(machine: Guest, script: str) -> str:
    return machine.run("sh", "-euc", f"cd /root\n{script}")


@pytest.fixture
def apt(machine: Guest) -> Callable[[str], str]:
    """Return what runs apt-get."""
    return lambda words: _sh(
        machine, f"DEBIAN_FRONTEND=noninteractive apt-get -qy {words}"
    )


pytestmark = pytest.mark.parametrize("suite", _SUITES, indirect=True)


def test_lintian_has_nothing_to_say(packages: Packages) -> None:
    assert packages.lintian == ""


def test_from_bare_machine_to_test(
    machine: Guest, suite: str, apt: Callable[[str], str]
) -> None:
    start = time.monotonic()
    apt("update")
    apt("install ./debs/*.deb")
    installed = time.monotonic()

    # Nothing of Incus is configured before someone asks for it.
    assert (
        machine.run("incus", "profile", "list", "--format=csv").count("\n") == 1
    )
    assert "adduser debusine-worker incus-admin" in _sh(
        machine, "incus-testbed doctor || test $? = 1"
    )
    _sh(machine, "incus-testbed setup && incus-testbed doctor")
    ready = time.monotonic()
    machine.push(images.build(suite), "/root")
    _sh(
        machine,
        "autopkgtest -U ./hello-testbed -- incus-testbed ./*.tar.zst 2>&1",
    )
    end = time.monotonic()
    print(
        f"{suite}: installed after {installed - start:.0f} s,"
        f" ready after {ready - start:.0f} s,"
        f" first autopkgtest passed after {end - start:.0f} s"
    )


def test_timer_removes_what_was_left(machine: Guest) -> None:
    assert "incus-testbed.service" in machine.run(
        "systemctl", "list-timers", "incus-testbed.timer"
    )
    _sh(
        machine,
        "alias=$(incus image list --format=csv --columns=l)\n"
        'incus init "$alias" lost --config user.incus-testbed.owner="$(\n'
        "python3 -c 'from incus_testbed.owner import Owner\n"
        "print(Owner.current())')\"",
    )
    machine.run("systemctl", "start", "incus-testbed.service")
    assert machine.instances() == []


def test_worker_starts_with_our_executors_and_gets_its_own_back(
    machine: Guest, apt: Callable[[str], str]
) -> None:
    ours = machine.run("systemctl", "show", "debusine-worker")
    assert "debusine_incus.worker" in ours
    apt("remove debusine-worker-incus")
    upstreams = machine.run("systemctl", "show", "debusine-worker")
    assert "path=/usr/bin/debusine-worker ;" in upstreams
    apt("install ./debs/*.deb")


def test_upgrade_downgrade_reinstall(
    machine: Guest, apt: Callable[[str], str]
) -> None:
    _sh(
        machine,
        "mkdir newer\n"
        f"for name in {' '.join(_NAMES)}; do\n"
        "dpkg-deb --raw-extract debs/${name}_*.deb tree\n"
        "sed -i 's/0\\.1\\.0/0.1.1/' tree/DEBIAN/control\n"
        "dpkg-deb --build tree newer/$name.deb\n"
        "rm -r tree\n"
        "done",
    )
    for step in (
        "install ./newer/*.deb",
        "install --allow-downgrades ./debs/*.deb",
        "install --reinstall ./debs/*.deb",
    ):
        apt(step)
        _sh(machine, "incus-testbed setup && incus-testbed doctor")
        assert "active" in machine.run(
            "systemctl", "is-active", "incus-testbed.timer"
        )


def test_purge_leaves_the_images_and_nothing_else(
    machine: Guest, apt: Callable[[str], str]
) -> None:
    before = machine.run("incus", "image", "list", "--format=csv")
    apt(f"purge {' '.join(_NAMES)}")
    assert machine.run("incus", "image", "list", "--format=csv") == before
    assert before
    left = machine.run(
        *("find", "/etc", "/usr/bin", "/usr/lib", "/usr/share", "/var/lib"),
        *("-path", "/var/lib/incus", "-prune", "-o"),
        *(
            "(",
            "-name",
            "incus-testbed*",
            "-o",
            "-name",
            "*debusine*incus*",
            ")",
        ),
        # What makes the machine itself a good guest.
        *("-not", "-name", "incus-testbed-resolv.service", "-print"),
    )
    assert left == ""
    assert "incus-testbed" not in machine.run("systemctl", "--failed")
