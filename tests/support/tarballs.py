# SPDX-License-Identifier: GPL-3.0-or-later
"""Archives for tests: of every kind that tar writes, in any mixture."""

import base64
import functools
import os
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from hypothesis import strategies as st


#: Members' bytes: wrapped, or a failing test prints pages of zeros.
class Blocks(bytes):
    """Some of an archive."""

    __slots__ = ()

    def __repr__(self) -> str:
        """Show what can be pasted into a test."""
        packed = base64.b85encode(zlib.compress(self)).decode()
        return f"Blocks.of({packed!r})"

    @classmethod
    def of(cls, packed: str) -> "Blocks":
        """Return what a failing test has shown."""
        return cls(zlib.decompress(base64.b85decode(packed)))


BLOCK = tarfile.BLOCKSIZE
END = bytes(2 * BLOCK)

FORMATS: tuple[Literal[0, 1, 2], ...] = (
    tarfile.USTAR_FORMAT,
    tarfile.GNU_FORMAT,
    tarfile.PAX_FORMAT,
)
GNU_TAR_FORMATS = ("v7", "oldgnu", "gnu", "ustar", "posix")
SPARSE_VERSIONS = ("0.0", "0.1", "1.0")

_PART = st.one_of(
    st.text("ab .-+\n*\\ü€", min_size=1, max_size=8),
    st.binary(min_size=1, max_size=8).map(
        lambda raw: os.fsdecode(raw.translate(None, b"/\0")) or "x"
    ),
    st.sampled_from(["etc", "usr", "lib", "a" * 99, "b" * 100, "ü" * 60]),
).filter(lambda part: part not in {".", ".."})

_NUMBERS = st.sampled_from([0, 1, 1000, 0o7777777, 0o10000000, 2**31 - 1])


def names() -> st.SearchStrategy[str]:
    """Make paths below the root, in the ways that tar writes them."""
    path = st.lists(_PART, min_size=1, max_size=3).map("/".join)
    return st.tuples(st.sampled_from(["", "./", "/"]), path).map("".join)


@st.composite
def members(draw: st.DrawFn) -> bytes:
    """Make one member's headers and data, as Python's tarfile writes them."""
    member = tarfile.TarInfo(draw(names()))
    member.type = draw(
        st.sampled_from(
            [
                tarfile.REGTYPE,
                tarfile.REGTYPE,
                tarfile.AREGTYPE,
                tarfile.DIRTYPE,
                tarfile.SYMTYPE,
                tarfile.LNKTYPE,
                tarfile.FIFOTYPE,
                tarfile.CHRTYPE,
            ]
        )
    )
    member.mode = draw(st.integers(0, 0o7777))
    member.uid, member.gid = draw(_NUMBERS), draw(_NUMBERS)
    member.uname, member.gname = (
        draw(st.sampled_from(["", "root", "größe"])),
        "",
    )
    member.mtime = draw(st.sampled_from([0, 1_700_000_000, 2**33 - 1]))
    content = b""
    if member.isreg():
        content = draw(st.binary(max_size=700))
        member.size = len(content)
    elif member.issym() or member.islnk():
        member.linkname = draw(names())
    elif member.ischr():
        member.devmajor, member.devminor = 1, draw(st.integers(0, 255))
    number = draw(st.sampled_from(FORMATS))
    if member.type == tarfile.AREGTYPE and len(os.fsencode(member.name)) > 99:
        # Python 3.11 takes it for a directory where the name is cut after a
        # slash; no program writes this ancient type with a long name.
        member.type = tarfile.REGTYPE
    if number == tarfile.PAX_FORMAT:
        member.pax_headers = draw(_records())
    header = _written(member, number)
    return Blocks(header + content + bytes(-len(content) % BLOCK))


def _records() -> st.SearchStrategy[dict[str, str]]:
    return st.dictionaries(
        st.sampled_from(
            ["comment", "SCHILY.xattr.user.test", "mtime", "VENDOR.thing"]
        ),
        st.integers(0, 2**31).map(lambda number: f"{number}.25"),
        max_size=3,
    )


def _written(member: tarfile.TarInfo, number: Literal[0, 1, 2]) -> bytes:
    try:
        return member.tobuf(number, "utf-8", "surrogateescape")
    except ValueError:  # too long for this format
        return member.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def global_headers() -> st.SearchStrategy[bytes]:
    """Make PAX headers that speak for all that follows."""
    return st.sampled_from(
        [
            {"comment": "0123456789abcdef"},
            {"uid": "1234", "gid": "99", "uname": "someone"},
            {"mtime": "86400.5"},
        ]
    ).map(tarfile.TarInfo.create_pax_global_header)


@functools.cache
def gnu_tar_parts() -> tuple[bytes, ...]:
    """Return what GNU tar writes of odd files, one archive body each."""
    return tuple(_gnu_tar_parts())


def _gnu_tar_parts() -> Iterator[bytes]:
    with tempfile.TemporaryDirectory() as name:
        tree = Path(name)
        _make_odd_files(tree)
        sparse = ["-C", name, "--sparse", "hole", "holes"]
        for version in SPARSE_VERSIONS:
            yield body_of(
                ["--format=posix", f"--sparse-version={version}", *sparse]
            )
        yield body_of(["--format=gnu", *sparse])
        for number in GNU_TAR_FORMATS:
            yield body_of([f"--format={number}", "-C", name, "plain", "linked"])
        yield body_of(["--format=gnu", "-C", name, "l" * 200])
        yield body_of(["--format=posix", "--xattrs", "-C", name, "attributes"])
        yield body_of(["--format=gnu", "-V", "a label", "-C", name, "plain"])
        yield body_of(["--format=gnu", "-g", f"{name}/dates", "-C", name, "d"])
        yield body_of(["--format=posix", "-C", name, "null", "fifo", "old"])


def _make_odd_files(tree: Path) -> None:
    (tree / "plain").write_text("plain\n")
    (tree / "linked").hardlink_to(tree / "plain")
    (tree / "d").mkdir()
    (tree / "d" / "inside").touch()
    (tree / ("l" * 200)).symlink_to("t" * 300)
    (tree / "old").touch()
    os.utime(tree / "old", ns=(0, -1_500_000_000))
    os.mkfifo(tree / "fifo", 0o600)
    os.mknod(tree / "null", 0o20666, os.makedev(1, 3))
    (tree / "attributes").write_text("x")
    os.setxattr(tree / "attributes", "user.thing", b"\xff\x00=\n")
    os.setxattr(
        tree / "attributes",
        "security.capability",
        bytes.fromhex("0100000200200000000000000000000000000000"),
    )
    with (tree / "hole").open("wb") as file:
        file.seek(300_000)
        file.write(b"end")
    with (tree / "holes").open("wb") as file:
        for number in range(30):  # more than one old GNU header has room for
            file.seek(number * 5_000)
            file.write(b"%d" % number)
        file.truncate(200_000)


def body_of(arguments: list[str]) -> bytes:
    """Return what GNU tar writes, without its end marker."""
    made = subprocess.run(
        ["tar", "-c", "-b", "1", "-f", "-", *arguments],
        check=True,
        capture_output=True,
    ).stdout
    assert made.endswith(END)
    return made[: -len(END)]


def bodies(min_size: int = 1) -> st.SearchStrategy[bytes]:
    """Make archives that lack nothing but their end marker."""
    part = st.one_of(
        members(),
        members(),
        members(),
        st.deferred(lambda: st.sampled_from(gnu_tar_parts())),
        st.tuples(global_headers(), members()).map(b"".join),
    )
    return st.lists(part, min_size=min_size, max_size=5).map(_joined)


def _joined(parts: list[bytes]) -> bytes:
    return Blocks(b"".join(parts))


@st.composite
def archives(draw: st.DrawFn) -> bytes:
    """Make whole archives, padded to any size of record."""
    padding = draw(st.sampled_from([0, 1, 7, 18, 40]))
    return Blocks(draw(bodies()) + END + bytes(padding * BLOCK))


def in_pieces(data: bytes, sizes: list[int]) -> Callable[[int], bytes]:
    """Return a read function that gives as little as a pipe may."""
    position = 0
    turn = 0

    def read(size: int) -> bytes:
        nonlocal position, turn
        step = min(size, sizes[turn % len(sizes)])
        turn += 1
        position += step
        return data[position - step : position]

    return read
