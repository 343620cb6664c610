# SPDX-License-Identifier: GPL-3.0-or-later
"""Environment and working directory of a command."""

from pathlib import Path, PurePath

import pytest
from debusine.tasks.executors.base import InstanceInterface

from .guest import Guest

_ROOT_OR_USER = pytest.mark.parametrize(
    "run_as_root", [True, False], ids=["root", "user"]
)


def _environment(
    instance: InstanceInterface, run_as_root: bool, **options: object
) -> dict[str, str]:
    """Return what a command finds in its environment."""
    said = instance.run(
        ["env", "--null"],
        run_as_root=run_as_root,
        text=True,
        check=True,
        **options,
    ).stdout
    return dict(line.split("=", 1) for line in said.split("\0")[:-1])


@_ROOT_OR_USER
def test_env_reaches_the_command(
    instance: InstanceInterface, run_as_root: bool
) -> None:
    given = {
        "PLAIN": "x",
        "SPACES": " a b ",
        "LINES": "a\nb\n",
        "QUOTES": "'\"",
        "SIGN": "a=b",
        "UTF8": "ü",
        "EMPTY": "",
        "DOLLAR": "$HOME `id`",
        "BACKSLASH": "\\",
        "OPTION": "--help",
        "STAR": "*",
        "a_1": "x",
    }
    found = _environment(instance, run_as_root, env=given)
    assert found.items() >= given.items()


@_ROOT_OR_USER
def test_env_beats_the_defaults(
    instance: InstanceInterface, run_as_root: bool
) -> None:
    names = ["HOME", "USER", "LOGNAME", "SHELL", "LANG"]
    given = dict.fromkeys(names, "/given")
    found = _environment(instance, run_as_root, env=given)
    assert found.items() >= given.items()


def test_command_is_looked_for_in_the_path_of_env(
    instance: InstanceInterface, guest: Guest, folder: PurePath
) -> None:
    guest.ask('cp /bin/true "$1/only-here"', folder)
    path = f"{folder}:/usr/bin:/bin"
    done = instance.run(["only-here"], env={"PATH": path})
    assert done.returncode == 0


@_ROOT_OR_USER
@pytest.mark.parametrize("env", [None, {"GIVEN": "x"}], ids=["none", "given"])
def test_the_users_own_environment_is_there(
    instance: InstanceInterface,
    guest: Guest,
    env: dict[str, str] | None,
    run_as_root: bool,
) -> None:
    instance.create_user()
    user = "root" if run_as_root else instance.non_root_user
    home, shell = guest.ask('getent passwd "$1"', user).strip().split(":")[-2:]
    found = _environment(instance, run_as_root, env=env)
    own = {"HOME": home, "USER": user, "LOGNAME": user, "SHELL": shell}
    assert found.items() >= own.items()
    path = found["PATH"].split(":")
    assert {"/usr/local/bin", "/usr/bin", "/bin"} <= set(path)
    assert ("/usr/sbin" in path) or not run_as_root


@_ROOT_OR_USER
def test_nothing_of_the_hosts_environment_is_there(
    instance: InstanceInterface,
    monkeypatch: pytest.MonkeyPatch,
    run_as_root: bool,
) -> None:
    monkeypatch.setenv("CANARY", "sings")
    found = _environment(instance, run_as_root)
    assert "CANARY" not in found
    assert not any(name.startswith("INCUS_") for name in found)


def test_cwd_is_the_guests(
    instance: InstanceInterface, guest: Guest, folder: PurePath
) -> None:
    guest.ask('mkdir "$1"', folder / "a b")
    done = instance.run(["pwd"], cwd=str(folder / "a b"), text=True)
    assert done.stdout == f"{folder}/a b\n"


def test_cwd_can_be_a_path(
    instance: InstanceInterface, folder: PurePath
) -> None:
    done = instance.run(["pwd"], cwd=folder, text=True)
    assert done.stdout == f"{folder}\n"


def test_relative_cwd_starts_in_roots_home(
    instance: InstanceInterface, guest: Guest
) -> None:
    guest.ask("mkdir -p /root/some/where")
    for cwd in ("some/where", PurePath("some/where")):
        done = instance.run(["pwd"], cwd=cwd, run_as_root=True, text=True)
        assert done.stdout == "/root/some/where\n"


def test_commands_are_found_relative_to_cwd(
    instance: InstanceInterface, guest: Guest, folder: PurePath
) -> None:
    guest.ask('cp /bin/true "$1/program"', folder)
    assert instance.run(["./program"], cwd=folder).returncode == 0


@_ROOT_OR_USER
def test_cwd_that_only_the_host_has(
    instance: InstanceInterface, tmp_path: Path, run_as_root: bool
) -> None:
    with pytest.raises(FileNotFoundError, match=str(tmp_path)):
        instance.run(["true"], cwd=tmp_path, run_as_root=run_as_root)


@_ROOT_OR_USER
def test_cwd_that_is_a_file(
    instance: InstanceInterface,
    guest: Guest,
    folder: PurePath,
    run_as_root: bool,
) -> None:
    guest.write(folder / "file", "")
    with pytest.raises(NotADirectoryError, match=str(folder / "file")):
        instance.run(["true"], cwd=folder / "file", run_as_root=run_as_root)


def test_cwd_that_is_closed_to_the_user(
    instance: InstanceInterface, guest: Guest, folder: PurePath
) -> None:
    guest.ask('chmod 700 "$1"', folder)
    instance.run(["true"], cwd=folder, run_as_root=True, check=True)
    with pytest.raises(PermissionError, match=str(folder)):
        instance.run(["true"], cwd=folder)
