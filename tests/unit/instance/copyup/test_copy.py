# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest sends becomes a folder of the host that can do no harm."""

import io
import os
import stat
import subprocess
import tarfile
import time
from pathlib import Path
from typing import Literal

import pytest

from incus_testbed import errors
from incus_testbed.instance.copyup import file_copy, folder_copy, limits
from incus_testbed.instance.copyup.limits import Limits
from incus_testbed.instance.copyup.tree import LeftOut
from tests.support import hostile_tar
from tests.support.hostile_tar import (
    Member,
    archive,
    file,
    folder,
    hardlink,
    symlink,
)

GENEROUS = Limits()


def copied(data: bytes, target: Path, limits: Limits = GENEROUS) -> LeftOut:
    """Copy an archive into a folder; return what was left out."""
    with folder_copy.folder_beside(target) as new:
        with hostile_tar.sent(data) as source:
            new.receive(source, limits)
        new.finish()
    return new.left_out


def names(left_out: LeftOut) -> set[bytes]:
    """Return the names of what was left out."""
    return {path for path, _ in left_out.first}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return the path of a folder to copy to, with nothing else around."""
    place = tmp_path / "place"
    place.mkdir()
    return place / "target"


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    """Return a folder that nothing may change."""
    place = tmp_path / "outside"
    place.mkdir()
    (place / "file").write_text("host")
    return place


# -- what comes out is what went in


def test_tree_as_gnu_tar_sends_it(tmp_path: Path, target: Path) -> None:
    tree = tmp_path / "tree"
    deep = tree / ("long" * 30) / ("name" * 30)
    deep.mkdir(parents=True)
    (deep / ("x" * 255)).write_bytes(os.urandom(100_000))
    (tree / "empty").mkdir()
    (tree / os.fsdecode(b"odd \xff\n")).write_text("odd")
    (tree / "run").write_text("#!/bin/sh\n")
    (tree / "run").chmod(0o755)
    (tree / "read-only").touch(0o400)
    (tree / "link").symlink_to("t" * 200)
    (tree / "hard").hardlink_to(tree / "run")
    (tree / "old").touch()
    os.utime(tree / "old", (-5, -5))
    os.utime(tree / "empty", (1, 1_500_000_000))
    os.utime(tree, (1, 1_400_000_000))
    sent = subprocess.run(
        ["tar", "-C", tree, "--format=gnu", "-cf-", "."],
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    left_out = copied(sent, target)
    assert not left_out.count
    subprocess.run(["diff", "-r", "--no-dereference", tree, target], check=True)
    for path in tree.rglob("*"):
        here, there = path.lstat(), (target / path.relative_to(tree)).lstat()
        assert here.st_mode == there.st_mode, path
        assert int(here.st_mtime) == there.st_mtime, path
    assert (target / "hard").samefile(target / "run")
    assert target.stat().st_mtime == 1_400_000_000


def test_end_wherever_it_is_in_a_record(tmp_path: Path, target: Path) -> None:
    """GNU tar sends records of 20 blocks, and a file here is one block."""
    tree = tmp_path / "tree"
    tree.mkdir()
    lengths = set()
    for number in range(21):
        (tree / f"{number}").touch()
        sent = subprocess.run(
            ["tar", "-C", tree, "--format=gnu", "-cf-", "."],
            stdout=subprocess.PIPE,
            check=True,
        ).stdout
        lengths.add((len(sent) - len(sent.rstrip(b"\0"))) // 512)
        assert not copied(sent, target).count
        assert len(list(target.iterdir())) == number + 1
    assert lengths == set(range(2, 22))


def test_zeros_become_holes(target: Path) -> None:
    size = 20 << 20
    copied(archive(file(b"zeros", bytes(size)), file(b"next")), target)
    status = (target / "zeros").stat()
    assert status.st_size == size
    assert status.st_blocks * 512 < size / 10
    assert (target / "zeros").read_bytes() == bytes(size)
    assert (target / "next").read_bytes() == b"x"


def test_times_and_sizes_that_need_binary_numbers(target: Path) -> None:
    late = Member(path=b"late", mtime=1 << 60)
    early = Member(path=b"early", mtime=-(1 << 60))
    copied(archive(late, early), target)
    assert {path.name for path in target.iterdir()} == {"late", "early"}


# -- what has no place on the host


@pytest.mark.parametrize(
    ("path", "link"),
    [
        (b"l", b"/etc/passwd"),
        (b"l", b".."),
        (b"l", b"../outside"),
        (b"l", b"./../outside"),
        (b"d/l", b"../.."),
        (b"d/l", b"../d/../../outside"),
        (b"d/l", b"x/../../.."),
        (b"d/l", b"x/.."),
        (b"l", b"l//etc/passwd"),
    ],
)
def test_link_that_may_lead_out_is_left_out(
    target: Path, path: bytes, link: bytes
) -> None:
    left_out = copied(archive(folder(b"d"), symlink(path, link)), target)
    assert names(left_out) == {path}
    assert [(kept.path, kept.target) for kept in left_out.links] == [
        (path, link)
    ]
    assert not (target / os.fsdecode(path)).is_symlink()


@pytest.mark.parametrize(
    ("path", "link"),
    [(b"l", b"d"), (b"l", b"nowhere"), (b"d/l", b".."), (b"d/l", b"../d")],
)
def test_link_within_is_kept(target: Path, path: bytes, link: bytes) -> None:
    left_out = copied(archive(folder(b"d"), symlink(path, link)), target)
    assert not left_out.count
    assert (target / os.fsdecode(path)).readlink() == Path(os.fsdecode(link))


@pytest.mark.parametrize("path", [b"/x", b"../x", b"d/../../x", b"..", b"/"])
def test_path_that_leads_out(target: Path, outside: Path, path: bytes) -> None:
    del outside
    left_out = copied(archive(file(path), file(b"kept")), target)
    assert names(left_out) == {path}
    assert [entry.name for entry in target.iterdir()] == ["kept"]


def test_path_through_a_link_of_the_same_copy(target: Path) -> None:
    sent = archive(
        folder(b"d"), symlink(b"l", b"d"), file(b"l/x"), folder(b"l")
    )
    left_out = copied(sent, target)
    assert names(left_out) == {b"l/x", b"l"}
    assert not list((target / "d").iterdir())


def test_devices_fifos_and_special_bits(target: Path) -> None:
    sent = archive(
        *(Member(path=name, type=name) for name in (b"3", b"4", b"6")),
        file(b"suid", mode=0o7777),
        folder(b"sticky", mode=0o7777),
        folder(b"locked", mode=0),
        file(b"locked/file"),
    )
    assert names(copied(sent, target)) == {b"3", b"4", b"6"}
    modes = {
        path.name: stat.S_IMODE(path.stat().st_mode)
        for path in target.iterdir()
    }
    assert modes == {"suid": 0o777, "sticky": 0o777, "locked": 0o700}
    assert (target / "locked/file").exists()


def test_hard_links_stay_within(target: Path, outside: Path) -> None:
    sent = archive(
        *(folder(b"d"), folder(b"d/e"), file(b"file")),
        symlink(b"d/e/up", b"../.."),
        hardlink(b"same", b"./file"),
        hardlink(b"up", b"d/e/up"),
        hardlink(b"absent", b"no/such/file"),
        hardlink(b"absolute", os.fsencode(outside / "file")),
        hardlink(b"upwards", b"../../outside/file"),
        hardlink(b"folder", b"d"),
        hardlink(b"through", b"d/e/up/file"),
        hardlink(b"itself", b"."),
    )
    assert names(copied(sent, target)) == {
        *(b"up", b"absent", b"absolute", b"upwards", b"folder", b"through"),
        b"itself",
    }
    assert (target / "same").samefile(target / "file")


def test_member_that_comes_twice(target: Path) -> None:
    sent = archive(
        *(file(b"a", b"1"), file(b"a", b"2"), symlink(b"a", b"x")),
        *(folder(b"a"), folder(b"d"), file(b"d"), folder(b"d", 0o711)),
    )
    left_out = copied(sent, target)
    assert left_out.count == 4
    assert (target / "a").read_text() == "1"
    assert stat.S_IMODE((target / "d").stat().st_mode) == 0o711


def test_of_many_only_some_are_named(target: Path) -> None:
    sent = archive(*(symlink(b"%d" % n, b"/") for n in range(1000)))
    left_out = copied(sent, target)
    assert left_out.count == 1000
    assert len(left_out.first) == 20


# -- what is there already


def test_link_that_is_there_is_not_followed(
    target: Path, outside: Path
) -> None:
    target.mkdir()
    (target / "data").symlink_to(outside)
    (target / "file").symlink_to(outside / "file")
    (target / "d").mkdir()
    (target / "d/deep").symlink_to(outside)
    sent = archive(file(b"data/file"), file(b"file"), file(b"d/deep/file"))
    copied(sent, target)
    assert (outside / "file").read_text() == "host"
    assert (target / "data/file").read_text() == "x"
    assert (target / "file").read_text() == "x"
    assert (target / "d/deep/file").read_text() == "x"


def test_folders_are_merged(target: Path) -> None:
    copied(
        archive(folder(b"d"), file(b"d/a"), file(b"d/b"), file(b"f")), target
    )
    again = archive(folder(b"d", 0o700), file(b"d/b", b"new"), folder(b"f"))
    assert not copied(again, target).count
    assert (target / "d/a").read_text() == "x"
    assert (target / "d/b").read_text() == "new"
    assert stat.S_IMODE((target / "d").stat().st_mode) == 0o700
    assert (target / "d").stat().st_mtime == 1_000_000_000
    assert (target / "f").is_dir()


def test_file_does_not_replace_a_folder(target: Path) -> None:
    copied(archive(folder(b"d"), file(b"d/a")), target)
    left_out = copied(archive(file(b"d"), file(b"e")), target)
    assert names(left_out) == {b"d"}
    assert (target / "d/a").exists()
    assert (target / "e").exists()


def test_target_that_is_a_users_link(target: Path, tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    target.symlink_to(real)
    copied(archive(file(b"file")), target)
    assert (real / "file").exists()


def test_file_replaces_a_link(target: Path, outside: Path) -> None:
    target.symlink_to(outside / "file")
    with file_copy.file_beside(target) as new:
        with hostile_tar.sent(b"new") as source:
            new.receive(source.rest(), GENEROUS)
        new.finish()
    assert target.read_text() == "new"
    assert not target.is_symlink()
    assert (outside / "file").read_text() == "host"


# -- limits


def test_limit_on_bytes(target: Path) -> None:
    small = Limits(size=1 << 20)
    for sent in (
        archive(file(b"a", b"x" * (1 << 20))),
        archive(Member(path=b"claims", size=1 << 62)),
        archive(Member(path=b"/refused", size=1 << 62)),
        archive(*(file(b"%d" % n, b"") for n in range(300))),
        archive(
            file(b"a", b"x" * 100_000),
            *(hardlink(b"%d" % n, b"a") for n in range(20)),
        ),
    ):
        with pytest.raises(errors.LimitReached, match="1048576") as caught:
            copied(sent, target, small)
        assert limits.BYTES in caught.value.resolution
    assert not list(target.parent.iterdir())


def test_limit_on_members(target: Path) -> None:
    sent = archive(*(file(b"%d" % n) for n in range(11)))
    with pytest.raises(errors.LimitReached) as caught:
        copied(sent, target, Limits(members=10))
    assert limits.MEMBERS in caught.value.resolution
    copied(sent, target, Limits(members=11))
    assert len(list(target.iterdir())) == 11


def test_limit_on_depth(target: Path) -> None:
    sent = archive(folder(b"a/b"), file(b"a/b/c"), file(b"a/b/c/d"))
    assert names(copied(sent, target, Limits(depth=3))) == {b"a/b/c/d"}
    deep = archive(file(b"a/" * 2000 + b"x"), folder(b"b/" * 100))
    assert names(copied(deep, target)) == {b"a/" * 2000 + b"x"}
    longer = archive(
        *(file(b"a/" * 9000 + b"x"), symlink(b"l", b"a/" * 9000)),
        *(hardlink(b"h", b"a/" * 9000), file(b"kept")),
    )
    assert copied(longer, target).count == 3
    assert {path.name for path in target.iterdir()} == {"a", "b", "kept"}


def test_limit_on_a_file(target: Path) -> None:
    with (
        file_copy.file_beside(target) as new,
        hostile_tar.sent(bytes(2 << 20)) as source,
        pytest.raises(errors.LimitReached),
    ):
        new.receive(source.rest(), Limits(size=1 << 20))
    assert not list(target.parent.iterdir())


def test_disk_is_not_filled(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "room", lambda _: 1 << 20)
    with pytest.raises(errors.NoSpace):
        copied(archive(file(b"a", b"x" * (2 << 20))), target)
    assert not list(target.parent.iterdir())


def test_settings() -> None:
    set_ = {limits.BYTES: "7", limits.MEMBERS: "8", limits.DEPTH: "9"}
    assert Limits.from_environment(set_) == Limits(size=7, members=8, depth=9)
    assert Limits.from_environment({limits.BYTES: " "}) == GENEROUS
    for nonsense in ("0", "-1", "1e9", "many", "\u0663"):
        with pytest.raises(errors.Unsupported, match=limits.BYTES):
            Limits.from_environment({limits.BYTES: nonsense})


# -- damage


def _python_s(format_: Literal[0, 2]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format_) as tar:
        tar.addfile(tarfile.TarInfo("x" * 80))
    return out.getvalue()


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"no archive at all" * 100,
        file(b"a").blocks(),
        file(b"a", b"x" * 2000).blocks()[:1500],
        archive(file(b"a"))[:-512],
        archive(file(b"a")) + b"x",
        archive(file(b"a")) + bytes(1 << 20),
        archive(Member(path=b"a", size=-512)),
        archive(folder(b"a"), Member(path=b"b", type=b"2", size=5)),
        archive(Member(path=b"a", type=b"L", size=1 << 30)),
        archive(Member(path=b"a", type=b"L", content=b"x" * 4000 + b"\0" * 9)),
        archive(Member(path=b"a", type=b"L", content=b"x\0" * 3000)),
        archive(Member(path=b"a", type=b"L", content=b"x\0y\0")),
        archive(Member(path=b"a", type=b"L", content=b"x")),
        archive(*[Member(path=b"a", type=b"L", content=b"x\0")] * 2),
        archive(Member(path=b"a", type=b"S")),
        archive(Member(path=b"a", type=b"x", content=b"8 path=/\n")),
        archive(Member(path=b"a", type=b"g", content=b"8 path=/\n")),
        _python_s(tarfile.PAX_FORMAT),
        _python_s(tarfile.USTAR_FORMAT),
    ],
)
def test_damage_is_one_clear_error(target: Path, sent: bytes) -> None:
    with pytest.raises(errors.CommandFailed, match="testbed sent"):
        copied(sent, target)
    assert not list(target.parent.iterdir())


def test_checksum(target: Path) -> None:
    sent = bytearray(archive(file(b"a")))
    sent[0:1] = b"b"
    with pytest.raises(errors.CommandFailed, match="testbed sent"):
        copied(bytes(sent), target)


def test_names_take_no_more_time_than_bytes(target: Path) -> None:
    """A deep path, many times: what H1 and H2 are for images."""
    deep = b"a/" * 2040 + b"x"
    sent = archive(*(file(deep + b"%d" % n, b"") for n in range(2000)))
    began = time.monotonic()
    assert copied(sent, target).count == 2000
    assert time.monotonic() - began < 10
