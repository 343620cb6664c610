# SPDX-License-Identifier: GPL-3.0-or-later
"""From a bare Debian machine to a test in a testbed, and back."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from incus_testbed.incus.client import Incus
from tests.e2e import guest, packages
from tests.e2e.guest import Guest
from tests.e2e.packages import Builder
from tests.e2e.worker import UNIT, process, program
from tests.support import images
from tests.support.images import codename

_SCRIPTS = Path(__file__).with_name("guest")
_BACKPORTS = _SCRIPTS / "backports.sh"
_PACKAGE = packages.ROOT / "tests" / "packages" / "hello-testbed"
_SUITES = ("bookworm-backports", "trixie", "trixie-backports", "sid")
_NAMES = ("incus-testbed", "debusine-worker-incus")
#: What ours work with; which versions these are is what the rows differ in.
_OTHERS = ("autopkgtest", "debusine-worker", "incus-client")
_BUILT = "/build/packages"

_LIST_IMAGES = ("incus", "image", "list", "--format=csv", "--columns=F")

#: Seconds for a worker to say that it is at work.
_WORKER_LIMIT = 120.0
#: Seconds for a testbed that is closed to be gone.
_REMOVAL_LIMIT = 60.0
#: Seconds for the packages' own tests.
_TESTS_LIMIT = 1800.0

#: Run by the worker's user: what it would offer, and why not.
_OFFER = """
import logging
import sys
logging.basicConfig(level=logging.INFO, stream=sys.stdout, format="%(message)s")
from debusine_incus.executor import IncusLXCExecutor
print(IncusLXCExecutor.available())
"""

pytestmark = pytest.mark.parametrize("suite", _SUITES, indirect=True)


@pytest.fixture(scope="module")
def suite(request: pytest.FixtureRequest) -> str:
    """Return the Debian that a test is about.

    Backports are known where the packages are installed, not where they are
    built: they build on the release itself.
    """
    return str(request.param)


@pytest.fixture(scope="module")
def builder(suite: str, incus_environment: object) -> Iterator[Builder]:
    """Give a machine to build our packages on."""
    del incus_environment
    with packages.builder(Incus(), codename(suite)) as machine:
        yield machine


@pytest.fixture(scope="module")
def sums(builder: Builder) -> dict[str, str]:
    """Build our packages, with their tests; return their SHA-256 sums."""
    return builder.build(_BUILT)


@pytest.fixture(scope="module")
def built(
    builder: Builder,
    sums: dict[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """Return the directory with all that the build has made."""
    del sums
    directory = tmp_path_factory.mktemp("built")
    builder.pull(_BUILT, directory)
    return directory


def _bare(suite: str, built: Path) -> Iterator[Guest]:
    """Have a bare machine beside which our packages lie."""
    with guest.running(Incus(), codename(suite), ()) as bare:
        for file in built.glob("*.deb"):
            bare.push(file, "/root/debs")
        bare.push(_PACKAGE, "/root")
        if suite != codename(suite):
            bare.push(_BACKPORTS, "/root")
            bare.run(f"/root/{_BACKPORTS.name}")
        yield bare


@pytest.fixture(scope="module")
def machine(suite: str, built: Path) -> Iterator[Guest]:
    """Give the machine that the packages are put on, and stay on."""
    yield from _bare(suite, built)


@pytest.fixture
def without_incus(suite: str, built: Path) -> Iterator[Guest]:
    """Give another one, on which Incus is never installed."""
    yield from _bare(suite, built)


def _sh(machine: Guest, script: str) -> str:
    return machine.run("sh", "-euc", f"cd /root\n{script}")


def _apt(machine: Guest, words: str) -> str:
    return _sh(machine, f"DEBIAN_FRONTEND=noninteractive apt-get -qy {words}")


@pytest.fixture
def apt(machine: Guest) -> Callable[[str], str]:
    """Return what runs apt-get."""
    return lambda words: _apt(machine, words)


def _offer(machine: Guest) -> str:
    """Return what a worker would log of the backend, and whether it works."""
    return machine.run(
        *("runuser", "-u", "debusine-worker", "--"),
        *("env", "--chdir=/", "python3", "-c", _OFFER),
    )


def test_lintian_has_nothing_to_say(suite: str, built: Path) -> None:
    """Each release's lintian has its own view."""
    said = packages.lintian(Incus(), codename(suite), built)
    print(said)
    # O: overridden, M: what lintian itself takes for none; N: the reasons.
    assert [line for line in said.splitlines() if line[0] not in "OMN"] == []


def test_other_conditions_make_the_same(
    builder: Builder, sums: dict[str, str]
) -> None:
    for name, digest in sums.items():
        print(digest, name)
    assert builder.build_otherwise() == sums


def test_own_tests(suite: str, built: Path, tmp_path: Path) -> None:
    """Debian's tests of the packages, in a testbed of their own making."""
    (changes,) = built.glob("*.changes")
    setup = ["apt-get update"]
    if suite != codename(suite):
        setup.insert(0, "/root/backports.sh")
    done = subprocess.run(
        [
            *("autopkgtest", changes, "--summary-file", tmp_path / "summary"),
            f"--copy={_BACKPORTS}:/root/backports.sh",
            *(f"--setup-commands={command}" for command in setup),
            *("--", "incus-testbed", images.build(codename(suite))),
            *("-c", "security.nesting=true", "-c", "security.privileged=true"),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=_TESTS_LIMIT,
        check=False,
    )
    # 2: a test is skipped, because this testbed is no virtual machine.
    assert done.returncode == 2, done.stdout
    summary = (tmp_path / "summary").read_text()
    results = {
        words[0]: words[1] for words in map(str.split, summary.splitlines())
    }
    passed = dict.fromkeys(("core", "adapter", "nested"), "PASS")
    assert results == {**passed, "machine": "SKIP"}, done.stdout
    print(summary)


def test_without_incus(without_incus: Guest) -> None:
    _apt(without_incus, "update")
    _apt(
        without_incus,
        "install --no-install-recommends ./debs/incus-testbed_*.deb",
    )
    said = _sh(without_incus, "incus-testbed doctor 2>&1 || test $? = 1")
    assert "Incus server:\n  apt install incus" in said
    assert "usermod" not in said
    refused = _sh(without_incus, "incus-testbed setup 2>&1 || test $? = 1")
    assert "apt install incus" in refused
    without_incus.run("systemctl", "start", "incus-testbed.service")
    assert without_incus.run("systemctl", "--failed", "--quiet") == ""
    _apt(without_incus, "purge incus-testbed")


def test_from_bare_machine_to_test(
    machine: Guest, suite: str, apt: Callable[[str], str]
) -> None:
    start = time.monotonic()
    apt("update")
    apt("install ./debs/*.deb")
    installed = time.monotonic()

    # No other project is configured before someone asks for it.
    assert (
        machine.run("incus", "profile", "list", "--format=csv").count("\n") == 1
    )
    # The installation has done it where Incus ran before our package came.
    said = _sh(machine, "incus-testbed setup --restricted debusine-worker")
    print(said)
    groups = machine.run("id", "--name", "--groups", "debusine-worker").split()
    assert "incus" in groups
    assert "incus-admin" not in groups
    assert _offer(machine).endswith("by debusine_incus\nTrue\n")
    project = machine.run("id", "--user", "debusine-worker").strip()
    said = _sh(
        machine,
        "cd /; runuser -u debusine-worker -- env HOME=/ incus-testbed doctor",
    )
    assert f"you use the project user-{project}" in said

    said = _sh(machine, "incus-testbed setup && incus-testbed doctor")
    # It has its project, and gets no other rights.
    assert "adduser" not in said
    assert "gpasswd" not in said
    ready = time.monotonic()
    machine.push(images.build(codename(suite)), "/root")
    _sh(
        machine,
        "autopkgtest -U ./hello-testbed -- incus-testbed ./*.tar.zst 2>&1",
    )
    end = time.monotonic()
    print(machine.run("dpkg-query", "--show", *_OTHERS))
    print(
        f"{suite}: installed after {installed - start:.0f} s,"
        f" ready after {ready - start:.0f} s,"
        f" first autopkgtest passed after {end - start:.0f} s"
    )


def test_sbuild_builds_in_a_testbed(
    machine: Guest, suite: str, apt: Callable[[str], str]
) -> None:
    apt("install --no-install-recommends sbuild")
    machine.push(_SCRIPTS / "source.sh", "/root")
    said = _sh(
        machine,
        "sbuild --version\n"
        "dsc=$(./source.sh hello-testbed 1)\n"
        "alias=$(incus image list --format=csv --columns=l)\n"
        "sbuild --chroot-mode=autopkgtest"
        " --autopkgtest-virt-server=autopkgtest-virt-incus-testbed"
        ' --autopkgtest-virt-server-opt="$alias"'
        f" --dist={codename(suite)} --arch-all --verbose --no-run-lintian"
        ' --no-run-piuparts --no-run-autopkgtest "$dsc" 2>&1\n'
        "test -e hello-testbed_1_all.deb",
    )
    print(said.splitlines()[0])
    # The testbed is removed while sbuild goes on.
    deadline = time.monotonic() + _REMOVAL_LIMIT
    while machine.instances():
        assert time.monotonic() < deadline
        time.sleep(1)


def test_timer_removes_what_was_left(machine: Guest) -> None:
    assert "incus-testbed.service" in machine.run(
        "systemctl", "list-timers", "incus-testbed.timer"
    )
    _sh(
        machine,
        "alias=$(incus image list --format=csv --columns=l)\n"
        'incus init "$alias" lost --config user.incus-testbed.owner="$(\n'
        "python3 -c 'from incus_testbed.ownership.owner import Owner\n"
        "print(Owner.current())')\"",
    )
    machine.run("systemctl", "start", "incus-testbed.service")
    assert machine.instances() == []


def test_masked_incus_is_left_alone(machine: Guest) -> None:
    machine.run("systemctl", "mask", "--now", "incus.service", "incus.socket")
    machine.run("systemctl", "start", "incus-testbed.service")
    said = _sh(machine, "incus-testbed doctor || test $? = 1")
    (advice,) = [line for line in said.splitlines() if "unmask" in line]
    _sh(machine, f"{advice} && incus-testbed doctor")


def test_service_may_do_little(machine: Guest) -> None:
    said = machine.run(
        *("systemd-analyze", "security", "--no-pager"),
        *("--threshold=30", "incus-testbed.service"),
    )
    print(said.splitlines()[-1])


@pytest.fixture
def running_worker(machine: Guest) -> None:
    """Have a worker that waits for a server that is not there."""
    _sh(
        machine,
        "cd /etc/debusine/worker\n"
        "printf '[General]\\napi-url = http://localhost:1/api\\n' >config.ini\n"
        "umask 077\n"
        "echo token >token\n"
        "chown debusine-worker: token\n"
        f"systemctl start {UNIT}",
    )
    _wait_until_looking_for_its_server(machine)


def _wait_until_looking_for_its_server(machine: Guest) -> None:
    """Wait until the worker's present process has started in earnest."""
    deadline = time.monotonic() + _WORKER_LIMIT
    while "Error connecting" not in (said := _said_by_worker(machine)):
        assert time.monotonic() < deadline, said
        time.sleep(1)


def _said_by_worker(machine: Guest) -> str:
    return _sh(
        machine,
        f"invocation=$(systemctl show --property=InvocationID --value {UNIT})\n"
        "journalctl --output=cat --no-pager _SYSTEMD_INVOCATION_ID=$invocation",
    )


@pytest.mark.usefixtures("running_worker")
def test_worker_takes_no_module_from_its_home(machine: Guest) -> None:
    home = "/var/lib/debusine/worker"
    _sh(
        machine,
        f"site=$(HOME={home} python3 -m site --user-site)\n"
        'mkdir -p "$site"\n'
        f'for directory in {home} "$site"; do\n'
        "echo 'raise ImportError' >$directory/debusine_incus.py\n"
        "done\n"
        f"systemctl restart {UNIT}",
    )
    _wait_until_looking_for_its_server(machine)
    machine.run("rm", "-r", f"{home}/.local", f"{home}/debusine_incus.py")


@pytest.mark.usefixtures("running_worker")
def test_installing_and_removing_restart_a_running_worker(
    machine: Guest, apt: Callable[[str], str]
) -> None:
    for step, expected in (
        ("remove debusine-worker-incus", "/usr/bin/debusine-worker"),
        ("install ./debs/*.deb", "debusine_incus.worker"),
    ):
        apt(step)
        _wait_until_looking_for_its_server(machine)
        assert expected in program(machine)


@pytest.mark.usefixtures("running_worker")
def test_upgrade_leaves_a_running_worker_alone(
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
    before = process(machine)
    for step in (
        "install ./newer/*.deb",
        "install --allow-downgrades ./debs/*.deb",
        "install --reinstall ./debs/*.deb",
    ):
        said = apt(step)
        assert said.count(f"systemctl restart {UNIT}") == 1
        assert process(machine) == before
        _sh(machine, "incus-testbed setup && incus-testbed doctor")
        for unit in ("incus-testbed.timer", UNIT):
            assert machine.run("systemctl", "is-active", unit) == "active\n"


def test_purge_leaves_the_images_and_says_how_to_remove_them(
    machine: Guest, apt: Callable[[str], str]
) -> None:
    image = machine.run(*_LIST_IMAGES)
    said = apt(f"purge {' '.join(_NAMES)}")
    assert machine.run(*_LIST_IMAGES) == image
    left = machine.run(
        *("find", "/etc", "/usr/bin", "/usr/lib", "/usr/share", "/var/lib"),
        *("-path", "/var/lib/incus", "-prune", "-o"),
        # What is in a user's home is the user's.
        *("-path", "/var/lib/debusine/worker", "-prune", "-o"),
        *("(", "-name", "incus-testbed*", "-o", "-name", "*debusine*incus*"),
        # What makes the machine itself a good guest.
        *(")", "-not", "-name", "incus-testbed-resolv.service", "-print"),
    )
    assert left == ""
    assert "incus-testbed" not in machine.run("systemctl", "--failed")

    remedies = [
        line.strip() for line in said.splitlines() if line.startswith("    ")
    ]
    assert "gpasswd --delete debusine-worker incus" in remedies
    _sh(machine, "\n".join(remedies).replace("FINGERPRINT", image.strip()))
    for kind in "image", "storage":
        assert machine.run("incus", kind, "list", "--format=csv") == ""
