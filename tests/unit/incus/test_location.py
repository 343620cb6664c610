# SPDX-License-Identifier: GPL-3.0-or-later
"""The server that the incus command would talk to is found."""

import os
import threading
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from incus_testbed import errors
from incus_testbed.incus import connection, location
from incus_testbed.incus.client import Incus
from incus_testbed.incus.exec.address import UnixAddress
from tests.support import fake_incusd


def _found(
    environment: dict[str, str], **aimed: str | None
) -> tuple[str, str] | None:
    """Return the socket and the project; None for a server elsewhere."""
    choice = location.choose(environment, **aimed)
    if isinstance(choice.address, UnixAddress):
        return choice.address.path, choice.project
    return None


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Return what writes a client's configuration; gives its environment."""

    def write(text: str, **more: str) -> dict[str, str]:
        directory = tmp_path / ".config" / "incus"
        directory.mkdir(parents=True)
        (directory / "config.yml").write_text(text)
        return {"HOME": str(tmp_path), "INCUS_SOCKET": "/s", **more}

    return write


@pytest.fixture
def home(tmp_path: Path) -> dict[str, str]:
    return {"HOME": str(tmp_path)}


@pytest.fixture
def directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Path]:
    """Give an empty /run/incus and /var/lib/incus."""
    run, lib = tmp_path / "run", tmp_path / "lib"
    run.mkdir()
    lib.mkdir()
    monkeypatch.setattr(location, "DIRECTORIES", (run, lib))
    return run, lib


def test_nothing_chosen(
    home: dict[str, str], directories: tuple[Path, Path]
) -> None:
    expected = (str(directories[1] / "unix.socket"), "default")
    assert _found(home) == expected


def test_newer_directory_where_a_socket_is_there(
    home: dict[str, str], directories: tuple[Path, Path]
) -> None:
    (directories[0] / "unix.socket").touch()
    expected = (str(directories[0] / "unix.socket"), "default")
    assert _found(home) == expected


def test_socket_goes_before_directory(home: dict[str, str]) -> None:
    home["INCUS_DIR"] = "/d"
    assert _found(home) == ("/d/unix.socket", "default")
    home["INCUS_SOCKET"] = "/s"
    assert _found(home) == ("/s", "default")


def test_users_without_the_admins_socket(
    home: dict[str, str], tmp_path: Path
) -> None:
    (tmp_path / "unix.socket.user").touch()
    home["INCUS_DIR"] = str(tmp_path)
    found = _found(home)
    assert found == (str(tmp_path / "unix.socket.user"), f"user-{os.geteuid()}")
    (tmp_path / "unix.socket").touch()
    found = _found(home)
    assert found == (str(tmp_path / "unix.socket"), "default")


def test_project(configure: Callable[..., dict[str, str]]) -> None:
    environment = configure("remotes: {local: {addr: other, project: conf}}")
    assert _found(environment) == ("/s", "conf")
    environment["INCUS_PROJECT"] = "env"
    assert _found(environment) == ("/s", "env")
    assert _found(environment, project="p") == ("/s", "p")


def test_default_project_is_no_choice(
    configure: Callable[..., dict[str, str]],
) -> None:
    environment = configure("remotes: {local: {project: default}}")
    assert _found(environment) == ("/s", "default")


_REMOTES = """
default-remote: far
remotes:
  far: {addr: "https://far:8443", protocol: incus}
  near: {addr: "unix:///near", project: p}
  bare: {addr: "unix:/bare"}
  both: {addr: "unix:///near,https://far:8443"}
"""


@pytest.mark.parametrize(
    ("chosen", "remote", "expected"),
    [
        ("", None, None),
        ("near", None, ("/near", "p")),
        ("near", "far", None),
        ("far", "local", ("/s", "default")),
        ("", "bare", ("/bare", "default")),
        ("", "both", None),
        ("", "unheard-of", None),
    ],
)
def test_remote(
    configure: Callable[..., dict[str, str]],
    chosen: str,
    remote: str | None,
    expected: tuple[str, str] | None,
) -> None:
    environment = configure(_REMOTES, INCUS_REMOTE=chosen)
    assert _found(environment, remote=remote) == expected


@pytest.mark.parametrize("variable", ["INCUS_CONF", "XDG_CONFIG_HOME"])
def test_configuration_elsewhere(
    configure: Callable[..., dict[str, str]], tmp_path: Path, variable: str
) -> None:
    environment = configure("remotes: {local: {project: home}}")
    elsewhere = tmp_path / "elsewhere"
    environment[variable] = str(elsewhere)
    directory = elsewhere / ("incus" if variable[0] == "X" else "")
    directory.mkdir(parents=True)
    (directory / "config.yml").write_text("remotes: {local: {project: here}}")
    assert _found(environment) == ("/s", "here")


@pytest.mark.parametrize(
    "text", ["", "- a list", "remotes: 1", "remotes: {local: 1}", "{"]
)
def test_strange_configuration(
    configure: Callable[..., dict[str, str]], text: str
) -> None:
    assert _found(configure(text)) == ("/s", "default")


def test_commands_go_through_the_socket_where_there_is_one(
    configure: Callable[..., dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("INCUS_PROJECT", "INCUS_CONF", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in configure(_REMOTES, INCUS_REMOTE="near").items():
        monkeypatch.setenv(name, value)
    argv = Incus().exec_argv("i", ["a", "b"])
    assert argv[-5:] == [
        "--socket=/near",
        "--project=p",
        "i",
        "a",
        "b",
    ]
    expected = ["incus", "exec", "both:i", "-T", "--", "a"]
    assert Incus(remote="both").exec_argv("i", ["a"]) == expected
    argv = Incus().exec_argv("i", ["a"], interactive=True)
    assert argv == ["incus", "exec", "i", "--force-interactive", "--", "a"]


@pytest.mark.parametrize("daemon", [fake_incusd.silent, fake_incusd.full])
def test_a_daemon_that_does_not_answer(
    daemon: Callable[[Path], AbstractContextManager[None]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connection, "REQUEST_LIMIT", 0.5)
    monkeypatch.setenv("INCUS_SOCKET", str(tmp_path / "s"))
    monkeypatch.setenv("INCUS_CONF", str(tmp_path))
    raised: list[errors.TestbedError] = []

    def ask() -> None:
        try:
            Incus(remote="local").instance("box")
        except errors.TestbedError as error:
            raised.append(error)

    with daemon(tmp_path / "s"):
        began = time.monotonic()
        # In a thread, so that a request without a limit fails the test.
        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(30)
        assert not asking.is_alive()
    assert time.monotonic() - began < 20
    assert isinstance(raised[0], errors.TimedOut)
    assert "0.5 s" in raised[0].details
    assert "journalctl" in raised[0].resolution
