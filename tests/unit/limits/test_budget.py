# SPDX-License-Identifier: GPL-3.0-or-later
"""No file, however it is made, takes more than an import may."""

import contextlib
import dataclasses
import io
import re
import shutil
import tarfile
import time

import pytest

from incus_testbed import errors
from incus_testbed.customise import customisation, sysvinit
from incus_testbed.image.fits import Place
from incus_testbed.image.stream import scratch
from incus_testbed.limits import budget as module
from incus_testbed.limits.budget import Budget, Meter
from incus_testbed.system.facts import Facts
from tests.support import hostile_images, measured
from tests.support.conversion import Converted as Conversion
from tests.support.conversion import convert
from tests.support.hostile_images import GIB, archive, member, symlink

#: Of processor time; the machine may be busy with something else.
SECONDS = 10.0
MEBIBYTES = 128.0

#: What is said of each hostile file; nothing where it becomes an image after
#: all, as quickly as others do.
SAID = {
    "long_link_target": "A name in the archive is too long",
    "deep_path": "A name in the archive is too long",
    "many_deep_paths": "far more than its own size",
    "status_of_one_paragraph": "The records of dpkg .* make no sense",
    "status_of_many_paragraphs": "The records of dpkg .* make no sense",
    "hole_in_a_small_file": "too large for a file of its kind",
    "long_names_of_links": "The archive's headers are too long",
    "many_links": "more links than fit into memory|far more than its own",
    "many_hard_links": "more links than fit into memory|far more than its own",
    "global_headers": "headers are too long",
    "global_headers_and_members": "global headers are too long",
    "long_headers": "far more than its own size",
    "configuration_without_end": "configuration",
    "members_without_end": "far more than its own size",
    "many_status_files": "The records of dpkg are in more than 10000 files",
    "circles_of_links": "more configuration files",
    "long_chains_of_links": "symbolic links are too long",
    "zeros": "far more than its own size",
    "newlines_in_interfaces": "",
    "long_word_in_interfaces": "",
    "negative_parts": "parts is wrong|not an archive|no init",
    "zeros_by_bzip2_packed": "far more than its own size",
    "large_dictionary_packed": "needs too much memory to be unpacked",
    "raw_disk_without_end": "far more than its own size",
    "qcow2_of_one_cluster": "far more than its own size",
    "qcow2_of_one_cluster_plain": "far more than its own size",
    "qcow2_of_many_tables": "tables are too long",
    "overlapping_extents": "tables are too long",
    "many_kernels": "",
    "overlapping_partitions": "two partitions overlap|partition table is",
    "circle_in_a_fat": "tables are too long",
}


def test_each_hostile_file_is_tried() -> None:
    assert set(SAID) == {*hostile_images.PIECES, *hostile_images.DISKS}


@pytest.mark.slow
@pytest.mark.parametrize("name", SAID)
def test_a_hostile_file_takes_little(name: str) -> None:
    if name in hostile_images.DISKS and not shutil.which("mkfs.vfat"):
        pytest.skip("no tools to make disks")
    with hostile_images.made(name) as file:
        assert file.stat().st_size < 1_000_000
        found = measured.run(file)
    print(found)
    if SAID[name]:
        assert found.error == "BadImage", found
        assert re.search(SAID[name], found.text)
    else:
        assert found.error == "", found
    assert found.seconds < SECONDS
    assert found.memory < MEBIBYTES
    assert found.written < 2 * GIB


# -- limits that are set


def converted(source: io.BytesIO, budget: Budget | None = None) -> Conversion:
    with scratch.file() as rootfs:
        return convert(
            source,
            rootfs,
            additions=customisation.entries,
            date=0,
            budget=budget,
        )


def refusal(source: io.BytesIO, **limits: int) -> str:
    with pytest.raises(errors.BadImage) as caught:
        converted(source, Budget(**limits))
    return str(caught.value)


@pytest.mark.parametrize(
    ("name", "limit"),
    [
        ("unpacked_bytes", 100_000),
        ("members", 5),
        ("name_bytes", 30),
        ("header_bytes", 511),
        ("configuration_bytes", 10),
        ("status_bytes", 10),
        ("link_bytes", 300),
    ],
)
def test_each_limit_is_named_and_can_be_raised(name: str, limit: int) -> None:
    source = archive(member("x" * 40, bytes(100_000)))
    said = refusal(source, **{name: limit})
    assert f"set INCUS_TESTBED_MAX_{name.upper()} in" in said
    assert str(limit) in said
    source.seek(0)
    converted(source)


def test_time_that_is_over() -> None:
    with pytest.raises(errors.TimedOut, match="INCUS_TESTBED_MAX_SECONDS"):
        converted(archive(), Budget(seconds=0))


def test_limits_from_the_environment() -> None:
    assert Budget.from_environment({}) == Budget()
    for field in dataclasses.fields(Budget):
        name = module.variable(field.name)
        found = Budget.from_environment({name: " 7 "})
        assert found == dataclasses.replace(Budget(), **{field.name: 7})
        with pytest.raises(errors.Unsupported, match=f"{name} is '1G'"):
            Budget.from_environment({name: "1G"})


def test_a_place_is_asked_for_before_a_disk_is_written() -> None:
    disk = bytearray(10 << 20)
    disk[510:512] = b"\x55\xaa"
    with (
        scratch.file() as rootfs,
        pytest.raises(errors.BadImage, match="too large for"),
    ):
        convert(
            io.BytesIO(disk),
            rootfs,
            additions=lambda _: (),
            place=Place(pool="p", pool_size=5 << 20),
            date=0,
        )


def test_what_a_pool_has_no_place_for() -> None:
    with (
        scratch.file() as rootfs,
        pytest.raises(errors.BadImage, match="too large for"),
    ):
        convert(
            archive(member("x", bytes(10 << 20))),
            rootfs,
            additions=lambda _: (),
            place=Place(pool="p", pool_size=10 << 20),
            date=0,
        )


def test_a_meter_leaves_room_for_empty_disks() -> None:
    meter = Meter(packed=lambda: 300 << 20)
    meter.check(60 * GIB)
    with pytest.raises(errors.BadImage, match="UNPACKED_BYTES"):
        meter.check(65 * GIB)


# -- nothing but a refusal comes out of a bad file


def test_a_unit_that_only_the_admin_has() -> None:
    name = "systemd-networkd.service"
    source = archive(
        member(f"usr/lib/systemd/system/{name}"),
        member(f"etc/systemd/system/{name}", b"[Service]\n"),
    )
    converted(source)


@pytest.mark.parametrize(
    "status",
    [
        b"Package: dpkg\nStatus: install ok installed\nArchitecture: \xff\n",
        b"Package: dpkg\nArchitecture: amd64\nPackage: dpkg\n\xff\n",
        b"\xff\nPackage: dpkg\n",
        b"Package: dpkg\n: x\n x\n",
        b"Package: systemd\nVersion: " + b"9" * 5000 + b"\n",
        b"Package: \xc2\x85dpkg\n\nPackage: dpkg\n",
    ],
)
def test_records_that_make_no_sense(status: bytes) -> None:
    with contextlib.suppress(errors.BadImage):
        converted(archive(member("var/lib/dpkg/status", status)))


def test_whatever_a_parser_stumbles_over() -> None:
    def stumble(_: object) -> tuple[()]:
        raise MemoryError

    with scratch.file() as rootfs, pytest.raises(errors.BadImage):
        convert(archive(), rootfs, additions=stumble, date=0)


def test_an_inittab_that_is_hard_to_match() -> None:
    text = "1:2345:respawn:" + "getty-" * 11_000 + " ttyS\n"
    facts = Facts(architecture="amd64", units={}, inittab=text)
    begun = time.process_time()
    assert text.encode() in (sysvinit.inittab(facts).content or b"")
    assert time.process_time() - begun < SECONDS


def test_a_unit_with_a_long_alias() -> None:
    unit = b"[Install]\nAlias=" + b"a" * 5000 + b".service\n"
    path = "usr/lib/systemd/system/systemd-networkd.service"
    said = refusal(archive(member(path, unit)))
    assert "too long" in said


def test_names_for_people_are_short() -> None:
    text = b"ID=" + b"d" * 500 + b"\nVERSION_CODENAME=" + b"c" * 500 + b"\n"
    facts = converted(archive(member("usr/lib/os-release", text))).facts
    assert facts
    assert (len(facts.vendor), len(facts.codename)) == (64, 64)


# -- what tar can't unpack


HARD = tarfile.LNKTYPE


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ([symlink("b", "/x"), symlink("a", "b"), member("a/f")], "outside"),
        (
            [
                symlink("d/b", "/x"),
                member("d/h", typeflag=HARD, target="d/b"),
                member("d/h/f"),
            ],
            "outside",
        ),
        ([symlink("a", "b"), symlink("b", "a"), member("a/f")], "circle"),
        ([member("h", typeflag=HARD, target="absent")], "does not hold: 'h'"),
        (
            [member("h", typeflag=HARD, target="late"), member("late")],
            "does not hold: 'h'",
        ),
        ([member("x", records={"path": "a\0b"})], "NUL"),
        (
            [member("x", typeflag=tarfile.SYMTYPE, records={"linkpath": "\0"})],
            "NUL",
        ),
        ([member("m", typeflag=b"M")], "another archive"),
        ([member("n" * 256)], "too long for a file system"),
        ([member("ü" * 130)], "too long for a file system"),
    ],
)
def test_what_tar_can_not_unpack(members: list[bytes], said: str) -> None:
    assert said in refusal(archive(*members))


@pytest.mark.parametrize(
    "members",
    [
        [symlink("b", "etc"), symlink("a", "b"), member("a/f")],
        [
            member("etc/f"),
            symlink("a", "etc"),
            member("h", typeflag=HARD, target="a/f"),
        ],
        [symlink("s", "x"), member("h", typeflag=HARD, target="s")],
        [
            symlink("a", "/x"),
            member("a"),
            member("h", typeflag=HARD, target="a"),
        ],
        [member("lib/f"), member("h", typeflag=HARD, target="usr/lib/f")],
    ],
)
def test_what_tar_can_unpack(members: list[bytes]) -> None:
    converted(archive(*members))
