# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever a guest sends: the host is as it was, but for the copy's target.

INCUS_TESTBED_FUZZ is how many times each is tried; 100,000 takes some hours.
"""

import contextlib
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from incus_testbed import errors
from incus_testbed.instance.copyup import folder_copy
from incus_testbed.instance.copyup.limits import Limits
from tests.support import hostile_tar
from tests.support.hostile_tar import Member

pytestmark = pytest.mark.slow

_LIMITS = Limits(size=4 << 20, members=50, depth=6)
#: Seconds of the processor that no copy of these sizes takes.
_LIMIT = 5
_EXAMPLES = int(os.environ.get("INCUS_TESTBED_FUZZ", "300"))

many = settings(
    max_examples=_EXAMPLES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)

# Few names, so that members meet; and the ways out.
_NAMES = st.sampled_from(
    [b"a", b"b", b"c", b"..", b".", b"", b"outside", b"secret", b"\xff"]
)
_PATHS = st.one_of(
    st.lists(_NAMES, min_size=1, max_size=5).map(b"/".join),
    st.lists(_NAMES, max_size=3).map(lambda names: b"/" + b"/".join(names)),
    st.sampled_from([b"n" * 255, b"n" * 256, b"a/" * 7 + b"x", b"a\nb\x1b[2J"]),
)
_TYPES = st.one_of(
    st.sampled_from([b"0", b"0", b"1", b"2", b"2", b"5", b"5"]),
    st.sampled_from([b"3", b"4", b"6"]),
)
_SIZES = st.one_of(
    st.none(),
    st.none(),
    st.none(),
    st.sampled_from([-1, -(1 << 62), 1, 512, 1 << 33, 1 << 62]),
)


@st.composite
def _members(draw: st.DrawFn) -> Member:
    type_ = draw(_TYPES)
    return Member(
        path=draw(_PATHS),
        type=type_,
        mode=draw(st.integers(0, 0o7777)),
        mtime=draw(st.sampled_from([0, 1, -(1 << 62), 1 << 62])),
        size=draw(_SIZES),
        target=draw(_PATHS) if type_ in b"12" else b"",
        content=draw(st.sampled_from([b"", b"x", b"y" * 600, bytes(9000)]))
        if type_ == b"0"
        else b"",
    )


_ARCHIVES = st.lists(_members(), max_size=8).map(
    lambda members: hostile_tar.archive(*members)
)


@st.composite
def _damaged(draw: st.DrawFn) -> bytes:
    """Make an archive with some bytes changed, and its end cut off or not."""
    data = bytearray(draw(_ARCHIVES))
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, len(data) - 1))
        data[place] = draw(st.integers(0, 255))
        if draw(st.booleans()):
            hostile_tar.set_checksum(data, place)
    return bytes(data[: draw(st.integers(0, len(data)))])


def _seen(folder: Path, without: str) -> dict[str, tuple[object, ...]]:
    """Return all that can be told of a folder, but for one entry."""
    return {
        str(path): (
            (status := path.lstat()).st_mode,
            *(status.st_ino, status.st_nlink, status.st_mtime_ns),
            path.read_bytes() if path.is_file() else b"",
        )
        for path in sorted(_below(folder))
        if not path.is_relative_to(folder / without)
    }


def _below(folder: Path) -> Iterator[Path]:
    for parent, folders, files in os.walk(folder):
        yield from (Path(parent, name) for name in [*folders, *files])


def _check_harmless(target: Path) -> None:
    root = target.resolve()
    for path in _below(target):
        status = path.lstat()
        kind = stat.S_IFMT(status.st_mode)
        assert kind in {stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK}, path
        assert kind == stat.S_IFLNK or not status.st_mode & 0o7000, path
        assert status.st_uid == os.getuid(), path
        # A loop of links leads nowhere, and that not outside.
        with contextlib.suppress(RuntimeError):
            assert path.resolve().is_relative_to(root), path


def _receive(data: bytes, target: Path) -> None:
    began = time.process_time()
    with (
        contextlib.suppress(errors.TestbedError),
        folder_copy.folder_beside(target) as new,
    ):
        with hostile_tar.sent(data) as source:
            new.receive(source, _LIMITS)
        new.finish()
    assert time.process_time() - began < _LIMIT


# What is left by adding up names alone: the first link leads to the copy
# itself, so that ".." behind it leads out.
_BY_TWO_LINKS = hostile_tar.archive(
    hostile_tar.symlink(b"a/b/up", b"../.."),
    hostile_tar.symlink(b"a/b/out", b"up/../outside"),
)


@many
@example([_BY_TWO_LINKS])
@given(st.lists(st.one_of(_ARCHIVES, _damaged()), min_size=1, max_size=3))
def test_host_is_as_before_but_for_the_target(archives: list[bytes]) -> None:
    """Also after several copies to the same target."""
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        (base / "outside").mkdir()
        (base / "outside/secret").write_text("host")
        (base / "secret").write_text("host")
        before = _seen(base, "target")
        for data in archives:
            _receive(data, base / "target")
            assert _seen(base, "target") == before
            _check_harmless(base / "target")


@many
@given(st.binary(max_size=3000))
def test_any_bytes(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        _receive(data, Path(name, "target"))
        assert not list(Path(name).iterdir())
