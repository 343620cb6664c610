# SPDX-License-Identifier: GPL-3.0-or-later
"""What goes into an archive comes out of it, whatever it is."""

import io
import tarfile
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from incus_testbed import errors
from incus_testbed.image.tar.archive import Archive
from incus_testbed.system.entry import Entry
from tests.support import tarballs

ADDITIONS = (
    Entry(path="etc", kind="directory", mode=0o755),
    Entry(path="etc/run.sh", kind="file", mode=0o755, content=b"#!/bin/sh\n"),
    Entry(path="etc/" + "n" * 120, kind="symlink", target="ü" * 120),
    Entry(path="run.sh", kind="hardlink", target="etc/run.sh"),
)
DATE = 1_700_000_000

pytestmark = pytest.mark.slow

PIECES = st.lists(
    st.sampled_from([1, 511, 512, 513, 10_240, 1 << 20]), min_size=1, max_size=4
)
many = settings(
    max_examples=300,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def passed_through(
    data: bytes,
    *,
    pieces: list[int] | None = None,
    additions: tuple[Entry, ...] = (),
) -> tuple[bytes, list[Entry]]:
    """Return what comes out of an archive, and what was seen in it."""
    out = io.BytesIO()
    archive = Archive(
        tarballs.in_pieces(data, pieces or [1 << 20]),
        out.write,  # type: ignore[arg-type]
    )
    seen = list(archive.entries(lambda _: True))
    for entry in additions:
        archive.append(entry, date=DATE)
    archive.end()
    return out.getvalue(), seen


def described(data: bytes) -> Iterator[tuple[object, ...]]:
    """Yield all that Python's tarfile knows of each member."""
    with tarfile.open(
        fileobj=io.BytesIO(data), encoding="utf-8", errors="surrogateescape"
    ) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isreg() else None
            content = file.read() if file else None
            yield (member.get_info(), member.pax_headers, content)


@many
@given(tarballs.bodies(), st.integers(0, 40), PIECES)
def test_every_byte_before_the_end_marker_comes_out(
    body: bytes, padding: int, pieces: list[int]
) -> None:
    source = body + tarballs.END + bytes(padding * tarballs.BLOCK)
    out, _ = passed_through(source, pieces=pieces, additions=ADDITIONS)
    assert out.startswith(body)
    assert out.endswith(tarballs.END)
    assert len(out) % tarfile.RECORDSIZE == 0


@many
@given(tarballs.archives())
def test_members_are_those_of_the_source_and_then_the_additions(
    source: bytes,
) -> None:
    out, seen = passed_through(source, additions=ADDITIONS)
    before, after = list(described(source)), list(described(out))
    assert after[: len(before)] == before
    assert len(seen) == len(before)
    for entry, (info, _, content) in zip(
        ADDITIONS, after[len(before) :], strict=True
    ):
        assert isinstance(info, dict)
        assert info["name"].rstrip("/") == entry.path
        assert info["linkname"] == entry.target
        assert info["mode"] == entry.mode
        assert (info["uid"], info["gid"]) == (0, 0)
        assert (info["uname"], info["gname"]) == ("root", "root")
        assert info["mtime"] == DATE
        assert content == entry.content


@many
@given(tarballs.members())
def test_an_entry_tells_what_the_member_is(member: bytes) -> None:
    _, [entry] = passed_through(member + tarballs.END)
    [(info, _, content)] = described(member + tarballs.END)
    assert isinstance(info, dict)
    assert entry.path == info["name"].removeprefix("./").strip("/")
    assert entry.mode == info["mode"]
    assert entry.content == content
    if info["type"] == tarfile.SYMTYPE:
        assert entry.target == info["linkname"]


@many
@given(tarballs.archives(), st.data())
def test_a_cut_archive_is_refused_unless_only_padding_is_gone(
    source: bytes, data: st.DataObject
) -> None:
    whole, _ = passed_through(source)
    end = len(source.rstrip(b"\0"))
    cut = data.draw(
        st.integers(0, len(source) - 1)
        | st.integers(max(end - 600, 0), len(source) - 1),
        label="cut",
    )
    try:
        out, _ = passed_through(source[:cut])
    except errors.BadImage as refusal:
        assert refusal.brief  # noqa: PT017
    else:
        assert out == whole


@many
@given(st.binary(max_size=3000))
def test_random_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(errors.BadImage):
        passed_through(data)


@many
@given(
    tarballs.archives(),
    st.lists(
        st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=12)),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
)
def test_damage_is_refused_or_harmless(
    source: bytes, damage: list[tuple[int, bytes]], mend: bool
) -> None:
    damaged = bytearray(source)
    for place, junk in damage:
        start = place % len(source)
        damaged[start : start + len(junk)] = junk
        if mend:  # so that what the header says is believed
            _set_checksum(damaged, start - start % tarballs.BLOCK)
    assume(len(damaged) % tarballs.BLOCK == 0)
    try:
        out, _ = passed_through(bytes(damaged))
    except errors.BadImage:
        return
    end = out.rstrip(b"\0")
    assert bytes(damaged).startswith(end)


def _set_checksum(data: bytearray, start: int) -> None:
    header = data[start : start + tarballs.BLOCK]
    header[148:156] = b" " * 8
    data[start + 148 : start + 156] = b"%06o\0 " % sum(header)


@many
@given(tarballs.bodies(), tarballs.bodies(min_size=0), st.integers(2, 30))
@example(b"", b"", 2)
def test_what_follows_the_end_is_never_lost_in_silence(
    body: bytes, more: bytes, blocks: int
) -> None:
    source = body + bytes(blocks * tarballs.BLOCK) + more
    if more or not body:
        with pytest.raises(errors.BadImage):
            passed_through(source)
    else:
        out, _ = passed_through(source)
        assert out.startswith(body)


@pytest.mark.parametrize("part", range(len(tarballs.gnu_tar_parts())))
def test_what_gnu_tar_writes_of_odd_files(part: int) -> None:
    body = tarballs.gnu_tar_parts()[part]
    out, _ = passed_through(body + tarballs.END)
    assert out.startswith(body)
