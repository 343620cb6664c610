# SPDX-License-Identifier: GPL-3.0-or-later
"""Real releases come through a conversion bit for bit."""

import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from incus_testbed.system.entry import Entry
from tests.support import images, trees
from tests.support.conversion import Converted as Conversion
from tests.support.conversion import convert

#: The packages bring capabilities, hard links, setuid bits and more owners.
SYSTEMS = {
    "bullseye": (),
    "bookworm": (),
    "trixie": ("iputils-ping", "perl", "dbus"),
    "forky": (),
    "sid": (),
}

ADDITION = Entry(path="etc/added", kind="file", content=b"by us\n")


@dataclass(frozen=True, kw_only=True)
class Converted:
    """A release's tarball, and what became of it, both uncompressed."""

    source: Path
    rootfs: Path
    conversion: Conversion


@pytest.fixture(scope="module", params=SYSTEMS)
def converted(request: pytest.FixtureRequest) -> Iterator[Converted]:
    tarball = images.build(request.param, SYSTEMS[request.param])
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        packed = Path(name) / "rootfs.tar.zst"
        with tarball.open("rb") as source, packed.open("wb") as rootfs:
            conversion = convert(
                source, rootfs, additions=lambda _: [ADDITION], date=0
            )
        yield Converted(
            source=_unpacked(tarball, Path(name) / "source.tar"),
            rootfs=_unpacked(packed, Path(name) / "rootfs.tar"),
            conversion=conversion,
        )


def _unpacked(packed: Path, plain: Path) -> Path:
    subprocess.run(["zstd", "-qdf", packed, "-o", plain], check=True)
    return plain


def test_every_byte_is_there(converted: Converted) -> None:
    before, after = converted.source.read_bytes(), converted.rootfs.read_bytes()
    assert after.startswith(before.rstrip(b"\0"))
    assert converted.conversion.unpacked_size == len(after)


def test_tar_lists_the_same_members(converted: Converted) -> None:
    before, after = map(_listed, (converted.source, converted.rootfs))
    assert after[:-1] == before
    assert after[-1].endswith(ADDITION.path)


def test_tar_unpacks_the_same_files(converted: Converted) -> None:
    before = trees.unpacked(converted.source)
    after = trees.unpacked(converted.rootfs)
    del after[1][ADDITION.path]
    assert after == before


def _listed(archive: Path) -> list[str]:
    return subprocess.run(
        ["tar", "-tvv", "--full-time", "--numeric-owner", "-f", archive],
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout.splitlines()
