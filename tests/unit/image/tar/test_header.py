# SPDX-License-Identifier: GPL-3.0-or-later
"""A plain header says what tarfile says of it; others are left to tarfile."""

import tarfile
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from incus_testbed.image.tar import header
from tests.support import tarballs

many = settings(
    max_examples=200,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


def _header(
    name: str = "etc/motd",
    form: Literal[0, 1] = tarfile.GNU_FORMAT,
    **fields: object,
) -> bytes:
    member = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(member, field, value)
    return member.tobuf(form)


def _agrees(block: bytes) -> bool:
    """Compare with tarfile; tell whether the header is plain."""
    member = header.plain(block)
    if member is None:
        return False
    other = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
    for field in ("name", "linkname", "mode", "size", "type"):
        assert getattr(member, field) == getattr(other, field)
    return True


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
@pytest.mark.parametrize(
    "fields",
    [
        {"size": 0o77777777777, "mode": 0o7777, "mtime": 1_700_000_000},
        {"type": tarfile.DIRTYPE, "name": "etc/"},
        {"type": tarfile.SYMTYPE, "linkname": "ü" * 50},
        {"type": tarfile.LNKTYPE, "linkname": "l" * 100},
        {"name": "n" * 100, "uname": "größe", "uid": 0o7777777},
    ],
    ids=str,
)
def test_what_debian_archives_hold_is_plain(
    form: Literal[0, 1], fields: dict[str, Any]
) -> None:
    assert _agrees(_header(form=form, **fields))


def test_numbers_that_end_with_a_space() -> None:
    block = bytearray(_header())
    block[100:108] = b"000644 \0"
    block[124:136] = b"00000001750 "
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    assert _agrees(bytes(block))


@pytest.mark.parametrize(
    "block",
    [
        bytes(header.SIZE),
        b"",
        _header()[:-1],
        _header("d/" + "n" * 99, tarfile.USTAR_FORMAT)[: header.SIZE],
        _header(type=tarfile.FIFOTYPE),
        _header(type=tarfile.DIRTYPE, size=1),
        _header(uid=0o10000000),
        _header(mtime=-1),
        _header().replace(b"ustar", b"Ustar"),
        _header().replace(b"motd", b"motE"),
    ],
    ids=range(10),
)
def test_others_are_not(block: bytes) -> None:
    assert header.plain(block) is None


@many
@given(
    tarballs.members(),
    st.lists(
        st.tuples(
            st.integers(0, header.SIZE - 1), st.binary(min_size=1, max_size=12)
        ),
        max_size=3,
    ),
    st.booleans(),
)
def test_changed_headers(
    member: bytes, damage: list[tuple[int, bytes]], mend: bool
) -> None:
    block = bytearray(member[: header.SIZE])
    for start, junk in damage:
        block[start : start + len(junk)] = junk
    del block[header.SIZE :]
    if mend:
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    assume(len(block) == header.SIZE)
    _agrees(bytes(block))
