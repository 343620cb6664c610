# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line, which is that of autopkgtest-virt-incus."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from incus_testbed import errors
from incus_testbed.incus.client import Incus

from .conftest import Start, names, wait_until_gone
from .server import COMMAND, LIMIT, environment


@pytest.fixture
def remote(tmp_path: Path) -> dict[str, str]:
    """Give an environment that knows the same server as remote far."""
    folder = tmp_path / "configuration"
    folder.mkdir()
    socket = (
        f"unix://{os.environ.get('INCUS_DIR', '/var/lib/incus')}/unix.socket"
    )
    (folder / "config.yml").write_text(
        "default-remote: nowhere\n"
        "remotes:\n"
        f"  far: {{addr: '{socket}'}}\n"
        "  nowhere: {addr: 'unix:///nonexistent'}\n"
    )
    return {"INCUS_CONF": str(folder)}


@pytest.mark.parametrize("option", [["--remote", "far"], ["-r", "far:"]])
def test_remote(
    start: Start, bookworm: str, remote: dict[str, str], option: list[str]
) -> None:
    server = start(*option, bookworm, env=environment(**remote))
    server.ask("open")
    assert server.output("echo", "there") == "there"
    server.ask("revert")
    server.ask("close")
    server.quit()


def test_remote_in_the_name_of_the_image(
    start: Start, bookworm: str, remote: dict[str, str]
) -> None:
    server = start(f"far:{bookworm}", env=environment(**remote))
    server.ask("open")
    assert server.output("echo", "there") == "there"
    server.ask("close")
    server.quit()


@pytest.mark.usefixtures("incus_environment")
@pytest.mark.parametrize("words", [["--remote", "faraway", "x"], ["faraway:x"]])
def test_remote_that_is_unknown(
    words: list[str], remote: dict[str, str]
) -> None:
    ended = subprocess.run(
        [COMMAND, *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=environment(**remote),
        timeout=LIMIT,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (1, "")
    assert "There is no remote faraway" in ended.stderr
    assert "There are: far, local, nowhere" in ended.stderr


@pytest.mark.parametrize("option", ["--project", "-p"])
def test_project(
    start: Start, incus: Incus, bookworm: str, option: str
) -> None:
    before = names(incus)
    project = os.environ["INCUS_PROJECT"]
    server = start(
        *(option, project, bookworm), env=environment(INCUS_PROJECT="default")
    )
    server.ask("open")
    assert names(incus) > before
    server.ask("close")
    server.quit()
    wait_until_gone(incus, before)


def test_project_that_is_unknown(start: Start, bookworm: str) -> None:
    said = start("--project", "no-such", bookworm).bomb("open")
    assert "no such project" in said


def test_name(start: Start, incus: Incus, bookworm: str) -> None:
    first = start("--name", "fixed", bookworm)
    first.ask("open")
    assert first.output("hostname") == "fixed"
    first.ask("revert")
    assert first.output("hostname") == "fixed"
    said = start("--name", "fixed", bookworm).bomb("open")
    assert "fixed" in said
    first.ask("close")
    with pytest.raises(errors.NotFound):
        incus.instance("fixed")  # the name is free at once
    first.ask("open")
    first.process.kill()
    first.process.wait()
    third = start("--name", "fixed", "--delete-existing", bookworm)
    third.ask("open")
    third.ask("close")
    third.quit()


def test_launch_arguments(start: Start, incus: Incus, bookworm: str) -> None:
    before = names(incus)
    server = start(bookworm, "-c", "limits.cpu=1", "--config=user.hello=world")
    for command in ("open", "revert"):
        server.ask(command)
        wait_until_one(incus, before)
        (mine,) = names(incus) - before
        config = incus.instance(mine).config
        assert (config["limits.cpu"], config["user.hello"]) == ("1", "world")
    server.ask("close")
    server.quit()


def wait_until_one(incus: Incus, before: set[str]) -> None:
    """Wait until the instance from before a revert is gone."""
    for _ in range(10 * LIMIT):
        if len(names(incus) - before) == 1:
            return


def test_launch_argument_that_is_wrong(start: Start, bookworm: str) -> None:
    said = start(bookworm, "--nonsense").bomb("open")
    assert "nonsense" in said


def test_debug_says_what_is_done(start: Start, bookworm: str) -> None:
    server = start("-d", bookworm)
    server.ask("open")
    server.execute("true")
    server.ask("close")
    said = server.quit().said
    assert f"{COMMAND}: DBG: executing open" in said
    assert f"incus launch {bookworm} testbed-" in said
    assert "is a container: autopkgtest skips" in said
    # of the console, by systemd
    assert re.search(r"(?m)^incus-testbed: testbed-\w+: \[  OK  \] \w", said)
    # A line a command: no script is shown whole.
    assert "boot_id" not in said


def test_vm_option_of_old_is_taken(start: Start) -> None:
    start("--vm", "absent").quit()


@pytest.mark.parametrize(
    "arguments", [[], ["--nonsense", "image"]], ids=["none", "unknown"]
)
def test_wrong_usage(arguments: list[str]) -> None:
    done = subprocess.run(
        [COMMAND, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    assert done.returncode == 2
    assert "usage: " in done.stderr


def test_it_keeps_to_the_project_that_it_began_with(
    start: Start, incus: Incus, bookworm: str, tmp_path: Path
) -> None:
    """The user may switch to another while the testbed is in use."""
    before = names(incus)
    mine = {
        key: os.environ[key] for key in os.environ if key != "INCUS_PROJECT"
    }
    project = os.environ["INCUS_PROJECT"]
    configuration = tmp_path / "config.yml"

    def switch_to(project: str) -> None:
        configuration.write_text(
            f"remotes:\n  local: {{addr: 'unix://', project: '{project}'}}\n"
        )

    switch_to(project)
    server = start(bookworm, env={**mine, "INCUS_CONF": str(tmp_path)})
    server.ask("open")
    switch_to("default")
    server.ask("revert")
    assert len(names(incus) - before) >= 1
    assert server.output("echo", "there") == "there"
    server.ask("close")
    server.quit()
    wait_until_gone(incus, before)


def test_without_a_network(start: Start, bookworm: str) -> None:
    """It stays so after a revert."""
    server = start("--network", "none", bookworm)
    server.ask("open")
    assert server.output("ls", "/sys/class/net") == "lo"
    server.ask("revert")
    assert server.output("ls", "/sys/class/net") == "lo"
    server.ask("close")
    server.quit()


def test_without_a_network_no_argument_adds_one(
    start: Start, bookworm: str
) -> None:
    said = start("--network=none", bookworm, "--profile=mine").bomb("open")
    assert "can't have --profile=mine" in said
