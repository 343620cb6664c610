# SPDX-License-Identifier: GPL-3.0-or-later
"""The file that is converted: what is read of it, holes and all."""

import gzip
import hashlib
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from incus_testbed.image.stream.source import CHUNK, Source, regular_file

_BLOCK = 4096


def _read(source: Source, size: int = CHUNK) -> bytes:
    parts = []
    while part := source.read(size):
        assert len(part) <= size
        parts.append(part)
    return b"".join(parts)


@given(
    parts=st.lists(
        st.tuples(st.booleans(), st.integers(1, 3 * _BLOCK)), max_size=8
    ),
    size=st.sampled_from([1000, _BLOCK, CHUNK]),
)
def test_holes_are_zeros(parts: list[tuple[bool, int]], size: int) -> None:
    content = b"".join(
        (b"x" if data else b"\0") * length for data, length in parts
    )
    with tempfile.TemporaryFile() as file:
        for data, length in parts:
            if data:
                file.write(b"x" * length)
            else:
                file.seek(length, os.SEEK_CUR)
        file.truncate(len(content))
        file.seek(0)
        told: list[int] = []
        source = Source(file, told.append)
        assert source.head(10) == content[:10]
        assert _read(source, size) == content
    assert source.size == len(content)
    assert source.sha256 == hashlib.sha256(content).hexdigest()
    assert told == sorted(told)
    assert told[-1:] == ([len(content)] if content else [])


def test_holes_are_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, pread = [], os.pread

    def counted(descriptor: int, size: int, place: int) -> bytes:
        data = pread(descriptor, size, place)
        read.append(len(data))
        return data

    monkeypatch.setattr(os, "pread", counted)
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.write(b"x")
        file.truncate(64 * CHUNK)
    with path.open("rb") as sparse:
        source = Source(sparse, None)
        source.drain()
    assert source.size == 64 * CHUNK
    assert sum(read) < CHUNK


def test_file_that_shrinks_just_ends(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 3 * CHUNK)
    with path.open("rb") as file:
        source = Source(file, None)
        assert source.read(CHUNK)
        assert source.read(CHUNK)
        os.truncate(path, CHUNK)
        assert source.read(CHUNK) == b""
        assert source.read(CHUNK) == b""


def test_file_is_read_from_where_it_stands(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"head, rest")
    with path.open("rb") as file:
        file.read(6)
        assert _read(Source(file, None)) == b"rest"


def test_what_unpacks_a_file_is_not_that_file(tmp_path: Path) -> None:
    path = tmp_path / "file.gz"
    path.write_bytes(gzip.compress(b"content"))
    with gzip.open(path) as unpacked:
        assert regular_file(unpacked) is None
        assert _read(Source(unpacked, None)) == b"content"


@pytest.mark.parametrize("buffering", [-1, 0])
def test_file_on_disk(tmp_path: Path, buffering: int) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"content")
    with path.open("rb", buffering=buffering) as file:
        assert regular_file(file) is not None
        assert _read(Source(file, None)) == b"content"
    with tempfile.NamedTemporaryFile() as wrapped:
        assert regular_file(wrapped) is not None


def test_pipe_is_no_file_on_disk() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"content")
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert regular_file(pipe) is None
        assert _read(Source(pipe, None)) == b"content"
