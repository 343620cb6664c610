# SPDX-License-Identifier: GPL-3.0-or-later
"""debci, CI jobs and sbuild, as docs/howto sets them up on bare machines.

The commands and files are those of the pages.
"""

import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from incus_testbed.incus.client import Incus
from tests.e2e import guest, job, packages, page
from tests.e2e.guest import Guest
from tests.support.sandbox import Sandbox

_SUITE = "sid"
_SCRIPTS = Path(__file__).with_name("guest")
_PACKAGE = packages.ROOT / "tests" / "packages" / "hello-testbed"
#: Where the package is, and where commands are run.
_HOME = "/srv"
_DEBS = "/opt/debs"
_PATCHED = "With debci's own backend incus-lxc"
_PASSED = (
    *("as-root              PASS", "across-reboot        PASS"),
    *("breaks-system        PASS", "as-user              PASS"),
)


@pytest.fixture(scope="module")
def built(
    incus_environment: object, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Build our packages; return their directory."""
    del incus_environment
    directory = tmp_path_factory.mktemp("built")
    with packages.builder(Incus(), _SUITE) as builder:
        builder.build("/build/packages", "env", "DEB_BUILD_OPTIONS=nocheck")
        builder.pull("/build/packages", directory)
    return directory


def _push(machine: Guest, built: Path) -> None:
    for deb in built.glob("*.deb"):
        machine.push(deb, _DEBS)
    machine.push(_SCRIPTS / "repository.sh", "/opt")
    machine.run("/opt/repository.sh", _DEBS)
    machine.push(_PACKAGE, _HOME)
    machine.run("chmod", "-R", "a+rX", _HOME)


@pytest.fixture
def bare(built: Path) -> Iterator[Guest]:
    """Give a bare machine whose apt has our packages, and a source package."""
    with guest.running(Incus(), _SUITE, ()) as machine:
        _push(machine, built)
        yield machine


def _sh(machine: Guest, script: str, *, cwd: str = _HOME) -> str:
    return machine.run("bash", "-euc", f"cd {cwd}\n{script}")


def _as_user(machine: Guest, script: str, *, cwd: str) -> str:
    """Run a script as the user ci, whose output is the user's own."""
    script = f"set -euo pipefail; cd {cwd}\n{{ {script}\n}} 2>&1 | cat"
    return machine.run(
        *("runuser", "--login", "ci", "--shell=/bin/bash"),
        f"--command={script}",
    )


def _configure(machine: Guest, path: str, content: str) -> None:
    machine.run("mkdir", "-p", str(Path(path).parent))
    _sh(machine, f"printf %s {shlex.quote(content)} >{path}")


def test_debci(bare: Guest) -> None:
    """As the user of a worker, and as root on a machine of one's own."""
    install, run, restart = page.blocks("debci.md", "On a worker", "sh")
    (settings,) = page.blocks("debci.md", "On a worker", "ini")
    _sh(bare, install)
    _configure(bare, "/etc/debci/conf.d/incus-testbed.conf", settings)

    said = _sh(bare, run)
    _sh(bare, restart)

    assert all(line in said for line in _PASSED), said

    (own,) = page.blocks("debci.md", "On your own machine", "sh")
    # The image is another: that of another project.
    said = _sh(bare, f"rm /run/lock/debci-testbed-*\n{own}")
    assert all(line in said for line in _PASSED), said

    # The patch fits the package, and brings our virt server.
    (patch,) = page.blocks("debci.md", _PATCHED, "sh")
    (settings,) = page.blocks("debci.md", _PATCHED, "ini")
    bare.push(page.path("debci-incus-lxc.patch"), _HOME)
    _sh(bare, patch)
    _configure(bare, "/etc/debci/conf.d/incus-testbed.conf", settings)
    said = _sh(
        bare,
        "runuser -u debci -- debci test --quiet --backend incus-lxc"
        f" --suite {_SUITE} --output-dir /tmp/patched ./hello-testbed\n"
        "cat /tmp/patched/summary; zcat /tmp/patched/log.gz",
    )
    assert all(line in said for line in _PASSED), said
    assert "-- incus-testbed autopkgtest/debian/sid/" in said


def test_runner_and_sbuild(bare: Guest) -> None:
    """A user without rights runs the job of a runner, and then sbuild."""
    (install,) = page.blocks("ci.md", "On a runner of your own", "sh")[:1]
    gitlab, github = page.blocks("ci.md", "On a runner of your own", "yaml")
    script = yaml.safe_load(gitlab)["autopkgtest"]["script"]
    steps = yaml.safe_load(github)["jobs"]["autopkgtest"]["steps"]
    # YAML 1.1 takes the key "on" for a boolean.
    assert [step["run"] for step in steps if "run" in step] == script
    _sh(bare, f"useradd --create-home ci\n{install}")
    _sh(bare, f"cp -r {_PACKAGE.name} /home/ci; chown -R ci: /home/ci")
    tree = f"/home/ci/{_PACKAGE.name}"

    said = _as_user(bare, "\n".join(script), cwd=tree)

    assert all(line in said for line in _PASSED), said

    (settings,) = page.blocks("sbuild.md", "Set sbuild up", "perl")
    (build,) = page.blocks("sbuild.md", "Build and test", "sh")
    _sh(bare, "apt install sbuild")
    _configure(bare, "/home/ci/.config/sbuild/config.pl", settings)
    _sh(bare, "chown -R ci: /home/ci")
    _as_user(bare, build, cwd=tree)
    said = _sh(bare, "cat /home/ci/hello-testbed_1_*.build")
    assert all(line in said for line in _PASSED), said
    assert "\nAutopkgtest: pass\n" in said
    assert "\nStatus: successful\n" in said


def test_privileged_container(incus_environment: Sandbox, built: Path) -> None:
    """A job in a container that has no init."""
    (commands,) = page.blocks("ci.md", "In a privileged container", "sh")
    salsa, github = page.blocks("ci.md", "In a privileged container", "yaml")
    script = yaml.safe_load(salsa)["autopkgtest in Incus"]["script"]
    assert script == commands.splitlines()
    steps = yaml.safe_load(github)["jobs"]["autopkgtest"]["steps"]
    assert steps[-1]["run"] == commands
    with job.running(Incus(), _SUITE, incus_environment.names) as machine:
        _push(machine, built)
        said = _sh(machine, commands, cwd=f"{_HOME}/{_PACKAGE.name}")
    assert all(line in said for line in _PASSED), said
