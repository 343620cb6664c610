# SPDX-License-Identifier: GPL-3.0-or-later
"""Files of a guest whose root means harm."""

import errno
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.instance.copyup import limits
from incus_testbed.instance.instance import Instance

_MIB = 1 << 20


@pytest.fixture(scope="module")
def instance(incus: Incus, bookworm: str) -> Iterator[Instance]:
    with Instance.launch(incus, bookworm, purpose="test") as launched:
        launched.wait_ready()
        launched.guest.run(["truncate", "--size=1T", "/root/large"], check=True)
        launched.guest.run(["truncate", "--size=1M", "/root/just"], check=True)
        data = "head -c 9M /dev/urandom >/root/data"
        launched.guest.run(["sh", "-c", data], check=True)
        yield launched


class _Watch:
    """The most that a folder's files have taken of the disk, ever."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look)
        self.most = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._over.is_set():
            for parent, _, files in os.walk(self._folder):
                for name in files:
                    try:
                        blocks = Path(parent, name).lstat().st_blocks
                    except FileNotFoundError:
                        continue
                    self.most = max(self.most, blocks * 512)
            time.sleep(0.02)


def test_pull_of_a_file_without_end(
    instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(limits.BYTES, str(_MIB))
    with _Watch(tmp_path) as watch, pytest.raises(errors.LimitReached):
        instance.guest.files.pull("/root/large", str(tmp_path / "file"))
    assert watch.most <= _MIB
    assert not list(tmp_path.iterdir())


def test_pull_of_a_file_that_does_not_fit(
    instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def room(_: object) -> int:
        taken = [path.stat().st_blocks * 512 for path in tmp_path.iterdir()]
        return max(4 * _MIB - sum(taken), 0)

    monkeypatch.setattr(limits, "room", room)
    with _Watch(tmp_path) as watch, pytest.raises(errors.NoSpace):
        instance.guest.files.pull("/root/data", str(tmp_path / "file"))
    assert watch.most <= 4 * _MIB
    assert not list(tmp_path.iterdir())


def test_pull_of_a_file_at_the_limit(
    instance: Instance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(limits.BYTES, str(_MIB))
    instance.guest.files.pull("/root/just", str(tmp_path / "file"))
    assert (tmp_path / "file").stat().st_size == _MIB


def test_pull_that_the_guest_breaks_off(
    instance: Instance, tmp_path: Path
) -> None:
    script = "#!/bin/sh\nseq 100000 >&2\necho some\nexit 1\n"
    (tmp_path / "cat").write_text(script)
    place = "/usr/local/sbin/cat"
    instance.guest.files.push(str(tmp_path / "cat"), place, mode=0o755)
    target = tmp_path / "file"
    target.write_text("before")
    with pytest.raises(OSError, match="/root/data"):
        instance.guest.files.pull("/root/data", str(target))
    assert target.read_text() == "before"
    instance.guest.run(["rm", place], check=True)


def test_user_of_the_guest_is_no_capability(instance: Instance) -> None:
    line = "x isolation-machine downtmp-host=/root/.ssh:x:1000:1000::/:/bin/sh"
    command = ["sh", "-c", 'echo "$1" >>/etc/passwd', "sh", line]
    instance.guest.run(command, check=True)
    assert not instance.wait_ready().user


def test_no_subvolume_escapes_the_limit_of_the_disk(
    instance: Instance,
) -> None:
    """No limit of a btrfs pool counts what is in a guest's own subvolume."""
    script = """
        use POSIX;
        sysopen(my $root, "/root", 0200000) or die $!;
        for my $number (0x5000940e, 0x50009418, 0x50009401, 0x50009417) {
            # The file descriptor of what to copy, and the name; the second
            # version of what makes a new one has its name elsewhere.
            my $what = $number == 0x50009418
                ? pack("q Q x40 Z4040", 0, 0, "made")
                : pack("q Z4088", fileno($root), "made");
            ioctl($root, $number, $what);
            print $! + 0, "\n";
            # The kernel takes the lower half of the number.
            syscall(16, fileno($root), $number | 1 << 40, $what)
                if (uname())[4] eq "x86_64";
            print $! + 0, -e "/root/made" ? " made" : "", "\n";
        }
    """
    done = instance.guest.run(
        ["perl", "-e", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == [str(errno.ENOTTY)] * 8
