# SPDX-License-Identifier: GPL-3.0-or-later
"""Two users of one machine: neither can plant files for the other, or hold it.

The user under test is root, who has the most to lose; the other is nobody.
"""

import os
import pwd
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from incus_testbed import errors
from incus_testbed.ownership import lock

_OTHER = pwd.getpwnam("nobody")
_NAME = "image artifact/1"


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Give a folder that both may write to, where the locks shall be."""
    if os.geteuid() != 0:
        pytest.skip("only root can be two users")
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o1777)
        monkeypatch.setenv("XDG_CACHE_HOME", folder)
        yield Path(folder)


def _as_other(*argv: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        argv,
        user=_OTHER.pw_uid,
        group=_OTHER.pw_gid,
        extra_groups=[],
        env={"PATH": os.environ["PATH"]},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )


def _lock() -> None:
    with lock.held(_NAME, timeout=0):
        pass


def test_a_folder_of_another_user_is_refused(shared: Path) -> None:
    """Its links would lead root to create files anywhere."""
    folder, target = shared / "incus-testbed", shared / "made-by-root"
    assert _as_other("mkdir", "--mode=0777", str(folder)).returncode == 0
    for number in range(256):
        link = folder / f"lock-{number:03}"
        link.symlink_to(target)
        os.lchown(link, _OTHER.pw_uid, _OTHER.pw_gid)

    with pytest.raises(errors.Denied) as refusal:
        _lock()

    assert "another user" in refusal.value.details
    assert not target.exists()


def test_a_link_in_place_of_the_folder_is_refused(shared: Path) -> None:
    (shared / "elsewhere").mkdir()
    link = str(shared / "incus-testbed")
    assert _as_other("ln", "-s", "elsewhere", link).returncode == 0

    with pytest.raises(errors.Denied):
        _lock()

    assert not list((shared / "elsewhere").iterdir())


def test_a_folder_that_others_may_write_to_is_refused(shared: Path) -> None:
    folder = shared / "incus-testbed"
    folder.mkdir()
    folder.chmod(0o777)

    with pytest.raises(errors.Denied) as refusal:
        _lock()

    assert "other users" in refusal.value.details


@pytest.mark.parametrize("kind", ["link", "fifo"])
def test_what_is_no_lock_is_refused_at_once(shared: Path, kind: str) -> None:
    """From a time when others could write to the folder."""
    folder = shared / "incus-testbed"
    folder.mkdir(mode=0o700)
    for number in range(256):
        path = folder / f"lock-{number:03}"
        if kind == "link":
            path.symlink_to(shared / "made-by-root")
        else:
            os.mkfifo(path)

    with pytest.raises(errors.Denied):
        _lock()

    assert not (shared / "made-by-root").exists()


def test_no_other_user_can_hold_a_lock(shared: Path) -> None:
    before = os.umask(0)
    try:
        _lock()
    finally:
        os.umask(before)
    (file,) = (shared / "incus-testbed").iterdir()

    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    held = _as_other("flock", "--nonblock", str(file), "true")
    assert held.returncode != 0
    _lock()


def test_folders_above_are_this_users_own(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(shared / "home" / ".cache"))
    before = os.umask(0)
    try:
        _lock()
    finally:
        os.umask(before)

    for folder in (shared / "home", shared / "home" / ".cache"):
        assert stat.S_IMODE(folder.stat().st_mode) & 0o022 == 0


def test_a_process_of_another_user_is_not_waited_for_for_ever(
    shared: Path,
) -> None:
    """If the other is root, it can hold what is ours; we say who does."""
    _lock()
    (file,) = (shared / "incus-testbed").iterdir()
    with subprocess.Popen(
        ["flock", str(file), "sh", "-c", "echo held; read -r _"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(errors.TimedOut, match="Another process") as caught:
            _lock()
        assert f"fuser {file}" in caught.value.resolution
        holder.communicate("")
