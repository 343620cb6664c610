# SPDX-License-Identifier: GPL-3.0-or-later
"""From a disk image of any shape to qcow2, or to a refusal that says why."""

import contextlib
import hashlib
import importlib.util
import io
import os
import shutil
import struct
import subprocess
import tarfile
import uuid
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from incus_testbed import errors
from incus_testbed.customise import vm
from incus_testbed.image.disk import ext4, partitions, qcow2, survey
from incus_testbed.image.disk.reader import Reader
from incus_testbed.image.disk.writer import CLUSTER, Writer
from incus_testbed.image.stream import scratch
from incus_testbed.limits.budget import Budget, Meter
from incus_testbed.system.disk import DiskSystem
from tests.support import disks, small_disks
from tests.support.conversion import Converted as Conversion
from tests.support.conversion import convert
from tests.support.disks import MIB
from tests.support.small_disks import AGENT, CLOUD_KERNEL, system

pytestmark = pytest.mark.skipif(
    not all(
        map(
            shutil.which,
            ("mcopy", "mkfs.vfat", "sfdisk", "mke2fs", "qemu-img"),
        )
    ),
    reason="mtools, dosfstools, fdisk, e2fsprogs or qemu-utils is missing",
)
some = settings(
    max_examples=60, deadline=None, suppress_health_check=list(HealthCheck)
)


@pytest.fixture(scope="module")
def disk() -> Iterator[Path]:
    with small_disks.made(system()) as made:
        yield made


@pytest.fixture
def converted(tmp_path: Path) -> Iterator[Callable[[Path], Conversion]]:
    """Give a conversion to a file that can be looked at: result.qcow2."""
    with (tmp_path / "result.qcow2").open("w+b") as result:

        def run(path: Path) -> Conversion:
            with path.open("rb") as source:
                made = convert(source, result, additions=lambda _: (), date=0)
                if made.rootfs is source:
                    shutil.copy(path, tmp_path / "result.qcow2")
            result.flush()
            return made

        yield run


def qemu_img(*argv: str | Path) -> str:
    return subprocess.run(
        ["qemu-img", *argv], check=True, stdout=subprocess.PIPE, text=True
    ).stdout


def same_bits(raw: Path, image: Path) -> bool:
    qemu_img("check", "-f", "qcow2", image)
    said = qemu_img("compare", "-f", "raw", "-F", "qcow2", raw, image)
    return "identical" in said


def shell(command: str) -> Callable[[Path, Path], None]:
    def pack(disk: Path, packed: Path) -> None:
        subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            check=True,
            cwd=disk.parent,
            env={**os.environ, "DISK": str(disk), "OUT": str(packed)},
            stderr=subprocess.DEVNULL,
        )

    return pack


SHAPES = {
    "raw": 'cp "$DISK" "$OUT"',
    "raw.xz": 'xz -0 <"$DISK" >"$OUT"',
    "raw.zst": 'zstd -q <"$DISK" >"$OUT"',
    "raw.gz": 'gzip -1 <"$DISK" >"$OUT"',
    "tar": 'tar -cf "$OUT" disk',
    "tar.xz as Debusine makes it": 'tar -cf - "$DISK" | xz -0 >"$OUT"',
    "tar -S": 'tar -S -cf "$OUT" disk',
    "tar -S of 0.0": 'tar -S -cf "$OUT" --format=posix'
    " --sparse-version=0.0 disk",
    "tar -S of 0.1": 'tar -S -cf "$OUT" --format=posix'
    " --sparse-version=0.1 disk",
    "tar.zst -S of 1.0": "tar -S -cf - --format=posix --sparse-version=1.0"
    ' disk | zstd -q >"$OUT"',
    "qcow2": 'qemu-img convert -f raw -O qcow2 "$DISK" "$OUT"',
    "old qcow2": 'qemu-img convert -f raw -O qcow2 -o compat=0.10 "$DISK"'
    ' "$OUT"',
    "packed qcow2": 'qemu-img convert -f raw -O qcow2 -c "$DISK" "$OUT"',
    "qcow2 with small clusters": "qemu-img convert -f raw -O qcow2 -c"
    ' -o cluster_size=4096 "$DISK" "$OUT"',
    "qcow2 packed with zstd": "qemu-img convert -f raw -O qcow2 -c"
    ' -o compression_type=zstd "$DISK" "$OUT"',
    "qcow2 with extended l2": "qemu-img convert -f raw -O qcow2"
    ' -o extended_l2=on,cluster_size=128k "$DISK" "$OUT"',
    "qcow2.gz": 'qemu-img convert -f raw -O qcow2 "$DISK" q &&'
    ' gzip -1 <q >"$OUT"',
    "zstd qcow2.gz": "qemu-img convert -f raw -O qcow2 -c"
    ' -o compression_type=zstd "$DISK" q && gzip -1 <q >"$OUT"',
    "qcow2 in a tar": 'qemu-img convert -f raw -O qcow2 "$DISK" q &&'
    ' tar -cf "$OUT" q',
}


@pytest.mark.parametrize("shape", SHAPES)
def test_same_bits_whatever_the_shape(
    disk: Path,
    tmp_path: Path,
    converted: Callable[[Path], Conversion],
    shape: str,
) -> None:
    packed = tmp_path / "packed"
    shell(SHAPES[shape])(disk, packed)
    made = converted(packed)
    assert same_bits(disk, tmp_path / "result.qcow2")
    assert made.sha256 == hashlib.sha256(packed.read_bytes()).hexdigest()
    assert made.source_size == packed.stat().st_size
    assert made.disk
    assert made.disk.size == small_disks.SIZE
    assert made.facts
    assert made.facts.codename == "trixie"
    # holes stay holes
    allowed = disk.stat().st_blocks * 512 + 64 * CLUSTER
    assert (tmp_path / "result.qcow2").stat().st_size < allowed


def test_a_pipe(disk: Path, tmp_path: Path) -> None:
    with (
        subprocess.Popen(["cat", disk], stdout=subprocess.PIPE) as source,
        (tmp_path / "result.qcow2").open("w+b") as result,
    ):
        assert source.stdout
        convert(source.stdout, result, additions=lambda _: (), date=0)
        result.flush()
    assert same_bits(disk, tmp_path / "result.qcow2")


def test_a_whole_qcow2_is_taken_as_it_is(disk: Path, tmp_path: Path) -> None:
    image = tmp_path / "image"
    qemu_img("convert", "-f", "raw", "-O", "qcow2", "-c", disk, image)
    with image.open("rb") as source, scratch.file() as result:
        made = convert(source, result, additions=lambda _: (), date=0)
        assert made.rootfs is source
        assert result.seek(0, io.SEEK_END) == 0


# -- what is read of a system


def surveyed(files: dict[str, str], **options: object) -> DiskSystem:
    with (
        small_disks.made(files, **options) as disk,
        disk.open("rb") as source,
        scratch.file() as result,
    ):
        made = convert(source, result, additions=lambda _: (), date=0)
        assert made.disk
        return made.disk


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"label": "dos", "esp_type": "ef"},
        {"fat": ["-F", "32", "-s", "1"]},
        {"ext4": ["-b", "1024"]},
        {"ext4": ["-O", "^64bit,^metadata_csum", "-I", "128"]},
        {"ext4": ["-O", "^extents,^64bit"]},
        {"ext4": ["-O", "inline_data"]},
        {"ext4": ["-O", "bigalloc"]},
    ],
    ids=str,
)
def test_file_systems(options: dict[str, object]) -> None:
    found = surveyed(system(**{"etc/large": "x" * (3 << 20)}), **options)
    assert found.facts
    assert found.facts.systemd_version == 257
    assert found.facts.architecture == "amd64"
    assert found.facts.vendor == "debian"
    assert found.boot_loader.architectures == {"amd64"}
    assert not found.boot_loader.signed
    assert found.has_9p
    assert not found.agent


@pytest.mark.skipif(not shutil.which("debugfs"), reason="no e2fsprogs")
@pytest.mark.parametrize("blocks", ["1024", "4096"])
@pytest.mark.parametrize(
    "features", ["extents", "^extents,^64bit", "inline_data"]
)
def test_files_are_those_that_debugfs_reads(features: str, blocks: str) -> None:
    files = system(
        tiny="x", short="y" * 100, long="0123456789" * 500_000, empty=""
    )
    options = {"ext4": ["-b", blocks, "-O", features]}
    with small_disks.made(files, **options) as disk:
        image = _Memory(disk.read_bytes())
        part = partitions.partitions(image.read, image.size)[1]
        root = ext4.Ext4(image.read, part)
        for path in files:
            folder, _, name = path.rpartition("/")
            inode = root.inode(root.names(folder)[name])
            shown = subprocess.run(
                ["debugfs", "-R", f"cat /{path}",
                 f"{disk}?offset={part.start}"],
                check=True, capture_output=True,
            ).stdout  # fmt: skip
            # debugfs 1.47.0 goes on to the end of what could be inline
            assert root.content(inode, 1 << 24) == shown[: inode.size]
            assert shown[: inode.size] == files[path].encode()


def test_agent_and_kernel() -> None:
    found = surveyed(system(**AGENT, **CLOUD_KERNEL))
    assert found.agent
    assert not found.has_9p


_WANTS = "etc/systemd/system/multi-user.target.wants"
_IFUPDOWN = {"usr/sbin/ifup": ""}


@pytest.mark.parametrize(
    ("files", "network"),
    [
        ({}, False),
        # cloud.debian.org: netplan's files come first, so ours does no harm
        (
            {
                "usr/lib/systemd/system/systemd-networkd.service": "",
                f"{_WANTS}/systemd-networkd.service": "",
                "etc/netplan/90-default.yaml": "network:\n  version: 2\n",
                "usr/bin/cloud-init": "",
            },
            False,
        ),
        (
            {
                "usr/lib/systemd/system/NetworkManager.service": "",
                f"{_WANTS}/NetworkManager.service": "",
            },
            True,
        ),
        (
            {
                "usr/lib/systemd/system/NetworkManager.service": "",
                f"{_WANTS}/NetworkManager.service": "",
                "usr/lib/systemd/system/systemd-networkd.service": "",
                f"{_WANTS}/systemd-networkd.service": "",
            },
            True,
        ),
        (
            {
                "usr/lib/systemd/system/dhcpcd.service": "",
                f"{_WANTS}/dhcpcd.service": "",
            },
            True,
        ),
        ({"etc/network/interfaces": "auto enp5s0\n", **_IFUPDOWN}, True),
        (
            {
                "etc/network/interfaces": "allow-hotplug enp5s0\n",
                "usr/lib/systemd/system/systemd-networkd.service": "",
                f"{_WANTS}/systemd-networkd.service": "",
                **_IFUPDOWN,
            },
            True,
        ),
        ({"etc/network/interfaces": "auto enp5s0\n"}, False),
        (
            {
                "usr/lib/systemd/system/systemd-networkd.service": "",
                f"{_WANTS}/systemd-networkd.service": "",
                "etc/systemd/network/20-wired.network": "[Match]\n",
            },
            True,
        ),
    ],
    ids=[
        *("bare", "cloud.debian.org", "NetworkManager"),
        *("NetworkManager beside networkd", "dhcpcd", "ifupdown"),
        *("ifupdown beside networkd", "only its file", "networkd"),
    ],
)
def test_network_is_added_where_there_is_none(
    files: dict[str, str], network: bool
) -> None:
    assert surveyed(system(**files)).network == network


def test_unknown_root() -> None:
    files = {"usr/x": "", "etc/x": ""}
    found = surveyed(files)
    assert found.facts is None
    assert found.file_system == "unknown"
    assert found.agent


#: As LVM's pvcreate, cryptsetup and mdadm write them, and mkfs of these.
_MARKS = {
    "LVM": (512, b"LABELONE".ljust(24, b"\0") + b"LVM2 001"),
    "LUKS": (0, b"LUKS\xba\xbe\0\2"),
    "RAID": (4096, b"\xfc\x4e\x2b\xa9\1\0\0\0"),
    "xfs": (0, b"XFSB\0\0\x10\0"),
    "btrfs": (0x10040, b"_BHRfS_M"),
}


@contextlib.contextmanager
def _with(mark: str) -> Iterator[Path]:
    """Give a disk with something else in the place of its root."""
    with small_disks.made(system()) as made:
        with made.open("r+b") as file:
            file.seek(small_disks.ROOT_START)
            file.write(bytes(1 << 20))
            place, text = _MARKS[mark]
            file.seek(small_disks.ROOT_START + place)
            file.write(text)
        yield made


@pytest.mark.parametrize("mark", ["xfs", "btrfs"])
def test_a_file_system_that_is_not_read(mark: str) -> None:
    with (
        _with(mark) as disk,
        disk.open("rb") as source,
        scratch.file() as result,
    ):
        found = convert(source, result, additions=lambda _: (), date=0).disk
    assert found
    assert found.facts is None
    assert found.file_system == mark
    assert found.boot_loader.architectures == {"amd64"}


def test_long_name_of_a_loader() -> None:
    found = surveyed(system(), loader="BOOTRISCV64.EFI")
    assert found.boot_loader.architectures == {"riscv64"}


def test_a_system_image_of_debusine() -> None:
    """It holds Debusine's units for the agent, and debvm's network."""
    found = importlib.util.find_spec("debusine")
    assert found
    assert found.submodule_search_locations
    (package,) = found.submodule_search_locations
    overlay = Path(package) / "tasks/data/overlays/incus-agent"
    units = {
        f"usr/{file.relative_to(overlay)}": file.read_text()
        for file in overlay.rglob("*")
        if file.is_file()
    }
    assert len(units) == 3
    disk = surveyed(
        system(
            **units,
            **{
                "etc/systemd/network/20-wired.network": "[Match]\nName=en*\n",
                "usr/lib/systemd/system/systemd-networkd.service": "",
                f"{_WANTS}/systemd-networkd.service": "",
            },
        )
    )
    assert disk.agent
    assert disk.network
    told = vm.configuration(vm.properties(disk))
    assert told == {"security.secureboot": "false"}


def test_a_disk_of_arm64() -> None:
    status = system()["var/lib/dpkg/status"].replace("amd64", "arm64")
    found = surveyed(
        system(**{"var/lib/dpkg/status": status}), loader="BOOTAA64.EFI"
    )
    assert found.facts
    assert found.facts.architecture == "arm64"
    assert found.boot_loader.architectures == {"arm64"}


# -- refusals


def refusal(path: Path) -> errors.BadImage:
    with (
        path.open("rb") as source,
        scratch.file() as result,
        pytest.raises(errors.BadImage) as caught,
    ):
        convert(source, result, additions=lambda _: (), date=0)
    return caught.value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"esp_type": "linux"}, "no EFI system partition"),
        ({"loader": None}, "no boot loader"),
        ({"label": "dos", "esp_type": "c"}, "no EFI system partition"),
    ],
)
def test_no_efi(options: dict[str, object], message: str) -> None:
    with small_disks.made(system(), **options) as made:
        assert message in refusal(made).brief


@pytest.mark.parametrize(
    ("mark", "where"),
    [
        ("LVM", "inside LVM"),
        ("LUKS", "encrypted (LUKS)"),
        ("RAID", "inside a RAID"),
    ],
)
def test_a_root_that_is_inside_something(mark: str, where: str) -> None:
    with _with(mark) as disk:
        refused = refusal(disk)
    assert refused.brief == f"The disk's root file system is {where}"
    assert "ext4" in refused.resolution


def test_partitions_as_cloud_debian_org_numbers_them(tmp_path: Path) -> None:
    """The root is the first by its number, and the last by its place."""
    disk = tmp_path / "disk"
    disks.truncate(disk, 32 * MIB)
    bios = "21686148-6449-6E6F-744E-656564454649"
    parts = [
        (9 * MIB, 8 * MIB, disks.ROOT_TYPE),
        (1 * MIB, 3 * MIB, bios),
        (4 * MIB, 5 * MIB, disks.ESP_TYPE),
    ]
    disks.partition(disk, parts, numbers=[1, 14, 15])
    image = _Memory(disk.read_bytes())
    found = partitions.partitions(image.read, image.size)
    assert [part.start for part in found] == [9 * MIB, 1 * MIB, 4 * MIB]
    assert [part.esp for part in found] == [False, False, True]


def test_no_partition_table(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    disks.make_ext4(tmp_path / "root", tmp_path / "part", MIB)
    assert "no partition table" in refusal(tmp_path / "part").brief


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ('tar -cf "$OUT" disk other', "more than a disk image"),
        ('tar -cf t disk; head -c 20000000 t >"$OUT"', "cut short"),
        ('tar -S -cf t disk; head -c 300000 t >"$OUT"', "cut short"),
        ('xz -0 <disk >t; head -c 10000 t >"$OUT"', "cut short"),
        ('head -c 20000000 disk >"$OUT"', "cut short"),
        (
            'qemu-img convert -f raw -O qcow2 disk q; head -c 600000 q >"$OUT"',
            "damaged",
        ),
        ('qemu-img convert -O qcow2 disk q; head -c 60 q >"$OUT"', "damaged"),
        (
            'qemu-img create -f qcow2 -b "$DISK" -F raw "$OUT"',
            "has a backing file",
        ),
        (
            "qemu-img create -f qcow2 -o data_file=x,data_file_raw=on"
            ' "$OUT" 40M',
            "data in another file",
        ),
        (
            # Its crypt_method is LUKS.  Asked to encrypt, qemu-img fails at
            # times: "Unable to get accurate CPU usage".
            'qemu-img create -f qcow2 "$OUT" 40M && printf "\\0\\0\\0\\2" |'
            ' dd of="$OUT" bs=1 seek=32 conv=notrunc',
            "is encrypted",
        ),
        # a raw disk that claims to be qcow2
        ('{ printf "QFI\\373"; tail -c +5 disk; } >"$OUT"', "unknown kind"),
        ('{ printf "QFI\\373\\0\\0\\0\\3"; tail -c +9 disk; } >"$OUT"', ""),
    ],
)
def test_refused(
    disk: Path, tmp_path: Path, command: str, message: str
) -> None:
    shutil.copy(disk, tmp_path / "disk")
    (tmp_path / "other").touch()
    shell(command)(tmp_path / "disk", tmp_path / "out")
    refused = refusal(tmp_path / "out")
    assert message in refused.brief
    assert refused.resolution


def test_no_room(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full = os.statvfs_result((4096, 4096, 9, 1, 1, 9, 9, 9, 0, 255))
    monkeypatch.setattr(os, "statvfs", lambda _: full)
    with disk.open("rb") as source, scratch.file() as result:
        with pytest.raises(errors.NoSpace) as caught:
            convert(source, result, additions=lambda _: (), date=0)
        assert result.tell() == 0
    assert "TMPDIR" in caught.value.resolution


# -- properties


@st.composite
def pieces(draw: st.DrawFn) -> list[tuple[int, bytes]]:
    """Make a sparse disk's parts."""
    found, position = [], 0
    for _ in range(draw(st.integers(0, 6))):
        position += draw(
            st.one_of(
                st.integers(0, 5 * CLUSTER),
                st.sampled_from([0, 1, CLUSTER, 8192 * CLUSTER]),
            )
        )
        size = draw(st.integers(1, 3 * CLUSTER))
        found.append((position, draw(st.binary(min_size=1, max_size=9)) * size))
        position += len(found[-1][1])
    return found


def written(parts: list[tuple[int, bytes]], file: IO[bytes]) -> Reader:
    writer = Writer(file)
    for offset, data in parts:
        writer.skip_to(offset)
        writer.write(data)
    return Reader(file, writer.finish(), Meter())


@some
@given(parts=pieces())
def test_what_is_written_is_read(parts: list[tuple[int, bytes]]) -> None:
    with scratch.file() as file:
        reader = written(parts, file)
        reader.check()
        end = 0
        for offset, data in parts:
            assert reader.read(offset, len(data)) == data
            gap = min(offset - end, 100_000)
            assert reader.read(offset - gap, gap) == bytes(gap)
            end = offset + len(data)
        assert reader.size == end + -end % 512
        file.seek(0)
        assert qcow2.header(file.read(qcow2.HEADER)).size == reader.size


def test_an_image_that_is_cut_in_its_first_table() -> None:
    with scratch.file() as file:
        writer = Writer(file)
        writer.write(b"1" * CLUSTER)
        header = writer.finish()
        file.truncate(header.l1_offset + 4)
        with pytest.raises(errors.BadImage, match="It ends before byte"):
            Reader(file, header, Meter()).check()


@settings(some, max_examples=15)
@given(parts=pieces().filter(bool))
def test_qemu_reads_it_too(
    parts: list[tuple[int, bytes]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("disk")
    with (folder / "raw").open("wb") as raw:
        for offset, data in parts:
            raw.seek(offset)
            raw.write(data)
        raw.truncate(raw.tell() + -raw.tell() % 512)
    with (folder / "image").open("w+b") as file:
        written(parts, file)
    assert same_bits(folder / "raw", folder / "image")


class _Memory:
    """A disk in memory."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.size = len(content)

    def read(self, offset: int, size: int) -> bytes:
        assert size < 64 << 20
        return self.content[offset : offset + size].ljust(size, b"\0")


#: Where a disk's structures are: tables, superblock, the root's inodes.
_PLACES = st.one_of(
    st.integers(440, 2048),
    st.integers(MIB, MIB + 1024),
    st.integers(small_disks.ROOT_START + 1024, small_disks.ROOT_START + 2048),
    st.integers(small_disks.ROOT_START, small_disks.SIZE - MIB),
)


@pytest.mark.slow
@settings(some, max_examples=150)
@given(
    changes=st.lists(
        st.tuples(
            _PLACES,
            st.sampled_from([b"\0", b"\xff" * 4, b"\1\0\0\0", b"\x80", b"\7"]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_a_damaged_disk_is_described_or_refused(
    disk: Path, changes: list[tuple[int, bytes]]
) -> None:
    content = bytearray(disk.read_bytes())
    for place, value in changes:
        content[place : place + len(value)] = value
    with contextlib.suppress(errors.BadImage):
        survey.survey(
            _Memory(bytes(content)),  # type: ignore[arg-type]
            Budget(),
        )


@some
@given(head=st.binary(max_size=200), place=st.integers(0, 200))
def test_any_header_is_read_or_refused(head: bytes, place: int) -> None:
    header = qcow2.Header(
        size=1 << 30, cluster_bits=16, l1_offset=65536, l1_entries=2
    )
    packed = header.pack(refcounts_offset=131072, refcounts_clusters=1)
    whole = packed.ljust(qcow2.HEADER, b"\0")
    with contextlib.suppress(errors.BadImage):
        qcow2.header(whole[:place] + head + whole[place + len(head) :])


@some
@given(
    parts=st.lists(
        st.tuples(st.integers(1, 50), st.integers(1, 20), st.booleans()),
        max_size=4,
    ),
    sector=st.sampled_from([512, 4096]),
)
def test_gpt(parts: list[tuple[int, int, bool]], sector: int) -> None:
    esp = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
    entries = b"".join(
        struct.pack(
            "<16s16sQQ80x",
            (esp if is_esp else uuid.uuid4()).bytes_le,
            uuid.uuid4().bytes_le,
            start,
            start + length - 1,
        )
        for start, length, is_esp in parts
    ).ljust(128 * 128, b"\0")
    header = struct.pack(
        "<8s4sIIIQQQQ16sQIII",
        b"EFI PART",
        b"\0\0\1\0",
        92,
        0,
        0,
        1,
        99,
        2,
        98,
        bytes(16),
        2,
        128,
        128,
        zlib.crc32(entries),
    )
    header = header[:16] + struct.pack("<I", zlib.crc32(header)) + header[20:]
    content = bytes(sector) + header.ljust(sector, b"\0") + entries
    disk = _Memory(content.ljust(100 * sector, b"\0"))
    taken = [
        place
        for start, length, _ in parts
        for place in range(start, start + length)
    ]
    if len(set(taken)) < len(taken):
        with pytest.raises(errors.BadImage) as caught:
            partitions.partitions(disk.read, disk.size)
        assert "overlap" in caught.value.details
        return
    found = partitions.partitions(disk.read, disk.size)
    assert [
        (part.start // sector, part.size // sector, part.esp) for part in found
    ] == parts


@some
@given(content=st.binary(min_size=1, max_size=5000), cut=st.integers(0, 9999))
def test_a_cut_archive(content: bytes, cut: int) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        member = tarfile.TarInfo("disk.img")
        data = content[:510].ljust(510, b"x") + b"\x55\xaa" + content
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    whole = packed.getvalue()[: 1024 + len(data)]
    source = io.BytesIO(whole[: min(cut, len(whole) - 1)])
    with scratch.file() as result, pytest.raises(errors.BadImage):
        convert(source, result, additions=lambda _: (), date=0)
