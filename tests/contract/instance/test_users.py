# SPDX-License-Identifier: GPL-3.0-or-later
"""Who a command runs as."""

from pathlib import PurePath

import pytest
from debusine.tasks.executors.base import InstanceInterface

from .guest import Guest


def _says(
    instance: InstanceInterface, *command: str, run_as_root: bool = False
) -> str:
    return instance.run(
        list(command), run_as_root=run_as_root, text=True, check=True
    ).stdout.strip()


def test_root(instance: InstanceInterface) -> None:
    assert _says(instance, "id", "-u", run_as_root=True) == "0"
    assert _says(instance, "id", "-G", run_as_root=True) == "0"


def test_create_user_returns_the_users_id(
    instance: InstanceInterface, guest: Guest
) -> None:
    uid = instance.create_user()
    assert str(uid) == guest.ask('id -u "$1"', instance.non_root_user).strip()
    assert uid != 0
    assert instance.create_user() == uid


def test_create_user_by_name(instance: InstanceInterface, guest: Guest) -> None:
    uid = instance.create_user("builder")
    assert str(uid) == guest.ask("id -u builder").strip()
    assert instance.create_user("builder") == uid
    assert uid != instance.create_user()


def test_create_user_that_the_image_has(instance: InstanceInterface) -> None:
    assert instance.create_user("nobody") == 65534


def test_create_user_makes_a_group(
    instance: InstanceInterface, guest: Guest
) -> None:
    instance.create_user()
    user = instance.non_root_user
    assert guest.ask('id -gn "$1"', user).strip() == user


def test_run_creates_the_user(
    instance: InstanceInterface,
    guest: Guest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(instance, "non_root_user", "newcomer")
    assert _says(instance, "id", "-un") == "newcomer"
    assert guest.ask("id -un newcomer").strip() == "newcomer"


def test_user_and_group(instance: InstanceInterface, guest: Guest) -> None:
    user = instance.non_root_user
    uid = instance.create_user()
    gid = guest.ask('id -g "$1"', user).strip()
    assert _says(instance, "id", "-u") == str(uid)
    assert _says(instance, "id", "-g") == gid
    assert _says(instance, "id", "-G").split()[0] == gid


def test_supplementary_groups(
    instance: InstanceInterface, guest: Guest
) -> None:
    instance.create_user()
    guest.ask('usermod -aG audio,games "$1"', instance.non_root_user)
    groups = set(_says(instance, "id", "-Gn").split())
    assert groups == {instance.non_root_user, "audio", "games"}


@pytest.mark.parametrize("run_as_root", [True, False], ids=["root", "user"])
def test_umask(instance: InstanceInterface, run_as_root: bool) -> None:
    said = _says(instance, "sh", "-c", "umask", run_as_root=run_as_root)
    assert said == "0022"


def test_files_belong_to_the_user(
    instance: InstanceInterface, guest: Guest, folder: PurePath
) -> None:
    guest.ask('chmod 1777 "$1"', folder)
    instance.run(["touch", str(folder / "file")], check=True)
    user = instance.non_root_user
    assert guest.stat(folder / "file") == f"{user}:{user} 644"


def test_home_is_there_and_the_users_own(
    instance: InstanceInterface, guest: Guest
) -> None:
    instance.create_user()
    user = instance.non_root_user
    home = guest.ask('getent passwd "$1"', user).split(":")[5]
    assert guest.stat(PurePath(home), "%U:%G %F") == f"{user}:{user} directory"
    _says(instance, "touch", f"{home}/file")


def test_home_is_where_the_shell_looks(instance: InstanceInterface) -> None:
    _says(instance, "sh", "-c", "cd ~ && touch written")
