# SPDX-License-Identifier: GPL-3.0-or-later
"""A user who is in the group incus alone runs testbeds, and gets no further."""

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support import restricted
from tests.support.restricted import User

_PACKAGES = Path(__file__).resolve().parents[1] / "packages"
_SERVER = "virt/autopkgtest-virt-incus-testbed"


@pytest.fixture(scope="module")
def environment() -> Iterator[dict[str, str]]:
    """Give an admin's environment, with an Incus and incus-user."""
    with restricted.server() as server:
        yield server


@pytest.fixture(scope="module")
def admin(environment: dict[str, str]) -> Callable[..., str]:
    """Give what runs incus as an admin."""

    def incus(*words: str) -> str:
        return subprocess.run(
            ["incus", *words],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    return incus


@pytest.fixture(scope="module")
def user(environment: dict[str, str]) -> Iterator[User]:
    """Give a user who was given a project."""
    with restricted.user(environment) as new:
        done = restricted.admit(new, environment)
        assert done.returncode == 0, done.stderr
        yield new


@pytest.fixture(scope="module")
def neighbour(environment: dict[str, str]) -> Iterator[User]:
    """Give another such user."""
    with restricted.user(environment, 1) as new:
        done = restricted.admit(new, environment)
        assert done.returncode == 0, done.stderr
        yield new


@pytest.fixture(scope="module")
def image(
    user: User, system_tarball: Callable[..., Path]
) -> Callable[..., str]:
    """Give what imports a suite as the user, and tells the alias."""

    def import_(suite: str, *packages: str) -> str:
        alias = "/".join((suite, *packages))
        tarball = restricted.share(system_tarball(suite, *packages), user)
        done = user.testbed("import", str(tarball), "--alias", alias)
        assert done.returncode == 0, done.stderr
        return alias

    return import_


@pytest.fixture(scope="module")
def system(image: Callable[..., str]) -> str:
    """Give the alias of a plain bookworm."""
    return image("bookworm")


# -- what works


def test_doctor_finds_all_that_is_needed(user: User) -> None:
    done = user.testbed("doctor")

    assert done.returncode == 0, done.stdout
    assert (
        f"ok    restricted project   you use the project {user.project}; its"
        f" network {user.network} and its storage pool default belong to its"
        " admin" in done.stdout
    )
    assert "failed" not in done.stdout


def test_setup_has_nothing_to_do(user: User) -> None:
    done = user.testbed("setup")

    assert (done.returncode, done.stdout) == (
        0,
        "Nothing is missing: nothing to do.\n",
    )


def test_setup_makes_the_profiles_in_the_project(user: User) -> None:
    for name in ("debusine", "debusine-vm"):
        user.output("incus", "profile", "delete", name)

    done = user.testbed("setup")

    assert done.returncode == 0, done.stderr
    assert "raw.lxc" not in done.stdout
    assert user.testbed("doctor").returncode == 0


def test_command_in_a_testbed(user: User, system: str) -> None:
    done = user.testbed("run", system, "--", "sh", "-c", "echo hello; exit 7")

    assert (done.returncode, done.stdout) == (7, "hello\n")
    assert user.output("incus", "list", "--format=csv") == ""


def test_command_that_closes_its_output_ends_when_it_ends(
    user: User, system: str
) -> None:
    script = "exec >&- 2>&-; sleep 2; exit 7"

    assert user.testbed("run", system, "--", "sh", "-c", script).returncode == 7


def test_shell(user: User, system: str) -> None:
    done = user.run(
        *("script", "--quiet", "--return", "--log-out=/dev/null", "--command"),
        f"/usr/bin/python3 -m incus_testbed shell {system}",
        stdin="id --user\nexit 3\n",
    )

    assert done.returncode == 3, done.stdout
    assert "\n0\n" in done.stdout


def test_images(user: User, system: str) -> None:
    done = user.testbed("images", "--format=json")

    assert [system] in [image["aliases"] for image in json.loads(done.stdout)]


def test_gc_removes_what_a_killed_process_has_left(
    user: User, system: str
) -> None:
    with subprocess.Popen(
        user.argv(
            *("/usr/bin/python3", "-m", "incus_testbed", "run", system, "--"),
            *("sh", "-c", "echo up; exec sleep 600"),
        ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        cwd=user.directory,
    ) as running:
        assert running.stdout
        assert running.stdout.readline() == b"up\n"
        running.kill()

    done = user.testbed("gc")

    assert done.stdout.startswith("instance testbed-"), done.stderr
    assert user.output("incus", "list", "--format=csv") == ""


def test_virt_server(user: User, system: str) -> None:
    """Open, run, copy, reboot, revert and close."""
    to_copy = user.directory / "to-copy"
    to_copy.write_text("hello")
    to_copy.chmod(0o644)
    server = subprocess.Popen(
        user.argv("/usr/bin/python3", f"{user.checkout}/{_SERVER}", system),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=user.directory,
        text=True,
    )
    assert server.stdin
    assert server.stdout

    def ask(line: str) -> str:
        assert server.stdin
        assert server.stdout
        server.stdin.write(f"{line}\n")
        server.stdin.flush()
        return server.stdout.readline().strip()

    assert server.stdout.readline() == "ok\n"
    assert ask("capabilities").startswith("ok ")
    scratch = ask("open").removeprefix("ok ")
    target = f"{scratch}/hello"
    assert ask(f"copydown {to_copy} {target}") == "ok"
    assert ask(
        f"execute cat,{target} /dev/null /dev/null /dev/null /"
    ).startswith("ok 0")
    assert ask("reboot").startswith("ok")
    back = user.directory / "home/back"
    assert ask(f"copyup {target} {back}") == "ok"
    assert back.read_text() == "hello"
    assert ask("revert").startswith("ok")
    assert ask(
        f"execute test,!,-e,{target} /dev/null /dev/null /dev/null /"
    ) == ("ok 0")
    assert ask("close") == "ok"
    server.stdin.write("quit\n")
    server.stdin.close()
    assert server.wait(60) == 0
    assert user.output("incus", "list", "--format=csv") == ""


def test_autopkgtest(user: User, system: str) -> None:
    done = user.run(
        *("autopkgtest", "--no-built-binaries", "--apt-upgrade"),
        str(user.checkout / "tests/packages/hello-testbed"),
        *("--", "incus-testbed", system),
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("suite", "packages"),
    [
        ("bullseye", ()),
        ("bookworm", ("systemd-resolved",)),
        ("trixie", ()),
        ("trixie", ("udev",)),
        ("forky", ()),
        ("sid", ()),
        ("sid", ("systemd-resolved", "udev")),
    ],
)
def test_release_comes_up_where_sys_is_writable(
    user: User,
    image: Callable[..., str],
    suite: str,
    packages: tuple[str, ...],
) -> None:
    """Udev does not run, and the console asks for a login."""
    script = """
        systemctl is-system-running --wait
        systemctl --failed --no-legend --plain
        grep --quiet ' /sys sysfs rw' /proc/mounts || echo read-only
        systemctl is-active systemd-udevd.service console-getty.service
        systemctl show --property=NRestarts --value console-getty.service
    """

    done = user.testbed(
        *("run", image(suite, *packages), "--", "sh", "-c", script)
    )

    assert done.stdout.split() == ["running", "inactive", "active", "0"]
