# SPDX-License-Identifier: GPL-3.0-or-later
"""A Debian is built, as root and as a normal user, and tests run in it."""

import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from incus_testbed import errors
from incus_testbed.bootstrap import apt
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance
from tests.integration.conftest import Cli
from tests.support import normal_user

_PACKAGE = Path(__file__).parents[1] / "packages" / "hello-testbed"
_ARCHITECTURE = apt.architecture()
_ALIAS = f"autopkgtest/debian/trixie/{_ARCHITECTURE}"
#: Seconds for one build.
_LIMIT = 300


@pytest.fixture(scope="module", autouse=True)
def _image(cli: Cli) -> Iterator[None]:
    said = cli.output("build", "trixie")
    assert said == f"{_ALIAS} is built\n"
    yield
    cli.output("remove", _ALIAS)


def _run(cli: Cli, script: str) -> list[str]:
    return cli.output("run", _ALIAS, "--", "sh", "-ec", script).splitlines()


def test_each_instance_is_a_machine_of_its_own(cli: Cli) -> None:
    """It boots whole, has a normal user, and reaches its mirror."""
    script = """
        systemctl is-system-running
        id --user user; runuser --login user --command=pwd
        cat /etc/machine-id
    """
    update = "apt-get update >&2"

    state, user, home, machine = _run(cli, f"{script}\n{update}")
    *same, other = _run(cli, script)

    assert (state, user, home) == ("running", "1000", "/home/user")
    assert same == [state, user, home]
    for each in (machine, other):
        assert re.fullmatch(r"[0-9a-f]{32}", each)
    assert machine != other


def test_a_package_is_tested_in_it(tmp_path: Path) -> None:
    """The test installs a package, so apt has lists."""
    output = tmp_path / "output"
    done = subprocess.run(
        [
            *("autopkgtest", f"--output-dir={output}", _PACKAGE),
            *("--", "incus-testbed", _ALIAS),
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
        text=True,
        timeout=_LIMIT,
    )

    assert done.returncode == 0, done.stdout
    summary = (output / "summary").read_text().splitlines()
    assert {tuple(line.split()) for line in summary} == {
        (test, "PASS")
        for test in ("as-root", "across-reboot", "breaks-system", "as-user")
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_build_that_is_killed_leaves_nothing(
    cli: Cli, incus: Incus, tmp_path: Path, number: signal.Signals
) -> None:
    before = {image.fingerprint for image in incus.images()}
    child = Cli({**cli.environment, "TMPDIR": str(tmp_path)}).start(
        "build", "trixie", "--alias=test/killed"
    )
    _await(lambda: [*tmp_path.glob("mmdebstrap.*/usr/bin")])

    child.send_signal(number)

    assert child.wait(_LIMIT) in {128 + number, -number}
    if number == signal.SIGKILL:  # mmdebstrap notices it in the end
        _await(lambda: not [*tmp_path.iterdir()])
    assert [*tmp_path.iterdir()] == []
    assert {image.fingerprint for image in incus.images()} == before


def test_a_normal_user_replaces_it_while_it_is_in_use(
    incus: Incus, cli: Cli
) -> None:
    """The new image is of another architecture, where that can be."""
    old = incus.image(_ALIAS)
    architecture = "i386" if _ARCHITECTURE == "amd64" else _ARCHITECTURE
    words = (
        *("build", "trixie", f"--alias={_ALIAS}", f"--arch={architecture}"),
        f"--mirror={apt.debian().main.uri}",
    )
    with Instance.launch(incus, _ALIAS, purpose="test") as instance:
        instance.wait_ready()

        normal_user.run(
            ["autopkgtest-build-incus-testbed", *words[1:]], limit=_LIMIT
        )

        assert incus.image(_ALIAS).fingerprint != old.fingerprint
        with pytest.raises(errors.NotFound):
            incus.image(old.fingerprint)
        assert instance.guest.exec(["true"]).returncode == 0
    script = "dpkg --print-architecture; id --user user"
    assert _run(cli, script) == [architecture, "1000"]


def _await(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + _LIMIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.2)
