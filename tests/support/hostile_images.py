# SPDX-License-Identifier: GPL-3.0-or-later
"""Files that mean harm, made here: small ones that would take a lot."""

import bz2
import contextlib
import io
import lzma
import struct
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from incus_testbed.image.disk import partitions
from incus_testbed.image.disk import survey as disk_survey
from incus_testbed.image.disk.ext4 import Ext4
from incus_testbed.limits.budget import Budget
from tests.support import small_disks, tiny_system
from tests.support.disks import MIB
from tests.support.tarballs import BLOCK, END

GIB = 1 << 30

_SYSTEM = tiny_system.tarball().rstrip(b"\0")
#: A small system's members, without the archive's end.
SYSTEM = _SYSTEM + bytes(-len(_SYSTEM) % BLOCK)

Pieces = Iterable[bytes]
#: What makes the pieces of a file, by name, before it is packed.
PIECES: dict[str, Callable[[], Pieces]] = {}
#: What makes a disk's file, by name, before it is packed.
DISKS: dict[str, Callable[[Path], None]] = {}


def _file(make: Callable[[], Pieces]) -> Callable[[], Pieces]:
    PIECES[make.__name__] = make
    return make


def _disk(make: Callable[[Path], None]) -> Callable[[Path], None]:
    DISKS[make.__name__] = make
    return make


@contextlib.contextmanager
def made(name: str) -> Iterator[Path]:
    """Give a hostile file, packed, for a while."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        packed = Path(folder, "packed")
        if name in DISKS:
            disk = Path(folder, "disk")
            DISKS[name](disk)
            subprocess.run(["zstd", "-q", disk, "-o", packed], check=True)
            disk.unlink()
        elif name.endswith("_packed"):
            packed.write_bytes(b"".join(PIECES[name]()))
        else:
            _pack(PIECES[name](), packed)
        yield packed


def _pack(pieces: Pieces, packed: Path) -> None:
    with (
        packed.open("wb") as file,
        subprocess.Popen(
            ["zstd", "-q", "-c"], stdin=subprocess.PIPE, stdout=file
        ) as zstd,
    ):
        assert zstd.stdin
        for piece in pieces:
            zstd.stdin.write(piece)
        zstd.stdin.close()
    assert zstd.returncode == 0


# -- members


def member(
    name: str,
    content: bytes = b"",
    *,
    typeflag: bytes = tarfile.REGTYPE,
    target: str = "",
    records: dict[str, str] | None = None,
) -> bytes:
    """Return a member, with PAX records where they are needed."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = typeflag, target, len(content)
    if records:
        info.pax_headers = records
    header = info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")
    return header + content + bytes(-len(content) % BLOCK)


def symlink(name: str, target: str) -> bytes:
    """Return a symbolic link."""
    return member(name, typeflag=tarfile.SYMTYPE, target=target)


def global_header(keywords: int, start: int = 0) -> bytes:
    """Return a PAX header for all that follows."""
    return tarfile.TarInfo.create_pax_global_header(
        {f"k{number}": "v" for number in range(start, start + keywords)}
    )


# -- archives


@_file
def long_link_target() -> Pieces:
    yield SYSTEM + symlink("etc/resolv.conf", "a/" * 100_000 + "b") + END


@_file
def deep_path() -> Pieces:
    yield SYSTEM + member("a/" * 400_000 + "b") + END


@_file
def many_deep_paths() -> Pieces:
    yield SYSTEM
    deep = "a/" * 2000
    yield symlink(f"{deep}l", "x")
    for number in range(5000):
        yield member(f"{'b/' if number % 2 else ''}{deep}{number}")
    yield END


@_file
def status_of_one_paragraph() -> Pieces:
    text = b"Package: dpkg\n" * 8000
    yield SYSTEM + member("var/lib/dpkg/status", text) + END


@_file
def status_of_many_paragraphs() -> Pieces:
    text = b"Package: dpkg\nStatus: no config-files\n\n" * 300_000
    yield SYSTEM + member("var/lib/dpkg/status", text) + END


@_file
def hole_in_a_small_file() -> Pieces:
    records = {"GNU.sparse.map": "0,0", "GNU.sparse.size": str(GIB)}
    yield SYSTEM + member("etc/os-release", records=records) + END


@_file
def long_names_of_links() -> Pieces:
    yield SYSTEM
    for number in range(12):
        yield symlink(f"{number}" + "x" * 10_000_000, "/")
    yield END


@_file
def many_links() -> Pieces:
    yield SYSTEM
    for number in range(45_000):
        yield symlink(f"{number}", "/")
    yield END


@_file
def many_hard_links() -> Pieces:
    yield SYSTEM
    for number in range(45_000):
        yield member(f"{number}", typeflag=tarfile.LNKTYPE, target=f"t{number}")
    yield END


@_file
def global_headers() -> Pieces:
    yield SYSTEM
    for number in range(8):
        yield global_header(90_000, number * 90_000) + member(f"{number}")
    yield END


@_file
def global_headers_and_members() -> Pieces:
    yield SYSTEM + global_header(60_000)
    for number in range(1000):
        yield member(f"{number}", records={"comment": "x"})
    yield END


@_file
def long_headers() -> Pieces:
    yield SYSTEM
    records = {f"k{number}": "" for number in range(50_000)}
    long = member("x", records=records)
    for _ in range(200):
        yield long
    yield END


@_file
def configuration_without_end() -> Pieces:
    yield SYSTEM
    for number in range(1000):
        path = f"etc/network/interfaces.d/{number}"
        yield member(path, b"#" * (1 << 16))
    yield END


@_file
def members_without_end() -> Pieces:
    yield SYSTEM
    for number in range(200_000):
        info = tarfile.TarInfo(f"{number}")
        yield info.tobuf(tarfile.USTAR_FORMAT)
    yield END


@_file
def many_status_files() -> Pieces:
    yield SYSTEM
    text = b"Package: dpkg\nArchitecture: amd64\n"
    for number in range(12_000):
        yield member(f"var/lib/dpkg/status.d/{number}", text)
    yield END


def _chained_links(count: int) -> Pieces:
    long = "x/../" * 700
    for number in range(count):
        target = f"{long}{number + 1}" if number < 38 else "0"
        yield symlink(f"etc/network/interfaces.d/{number}", target)


@_file
def circles_of_links() -> Pieces:
    yield SYSTEM
    yield from _chained_links(3000)
    yield END


@_file
def long_chains_of_links() -> Pieces:
    yield SYSTEM + member("etc/network/interfaces", b"source x\n")
    yield from _chained_links(1500)
    yield END


@_file
def zeros() -> Pieces:
    info = tarfile.TarInfo("zeros")
    info.size = GIB + GIB // 2
    yield SYSTEM + info.tobuf(tarfile.PAX_FORMAT)
    for _ in range(1536):
        yield bytes(MIB)
    yield END


@_file
def zeros_by_bzip2_packed() -> Pieces:
    info = tarfile.TarInfo("zeros")
    info.size = 1500 * MIB
    yield bz2.compress(SYSTEM + info.tobuf(tarfile.PAX_FORMAT))
    part = bz2.compress(bytes(10 * MIB))
    for _ in range(150):
        yield part
    yield bz2.compress(END)


@_file
def newlines_in_interfaces() -> Pieces:
    text = b"\n" * 65_535
    yield SYSTEM + member("etc/network/interfaces", text) + END


@_file
def long_word_in_interfaces() -> Pieces:
    text = b"auto " + b"eth0" * 16_000 + b"!\niface host0 inet dhcp\n"
    yield (
        SYSTEM
        + member("etc/network/interfaces", text)
        + member("usr/sbin/ifup")
        + END
    )


@_file
def negative_parts() -> Pieces:
    pairs = "4096,-4096," * 90_000
    records = {"GNU.sparse.map": pairs[:-1], "GNU.sparse.size": str(GIB)}
    yield member("disk", records=records) + END


@_file
def large_dictionary_packed() -> Pieces:
    """Have a small file ask for 4 GiB of memory."""
    filters = [{"id": lzma.FILTER_LZMA2, "dict_size": MIB}]
    packer = lzma.LZMACompressor(filters=filters)
    info = tarfile.TarInfo("zeros")
    info.size = 320 * MIB
    packed = bytearray(packer.compress(SYSTEM + info.tobuf()))
    for _ in range(320):
        packed += packer.compress(bytes(MIB))
    packed += packer.compress(END) + packer.flush()
    start = 12  # after the stream's header comes the block's
    size = (packed[start] + 1) * 4
    assert packed[start + 2 : start + 4] == b"\x21\x01"
    packed[start + 4] = 40  # a dictionary of 4 GiB - 1
    header = bytes(packed[start : start + size - 4])
    packed[start + size - 4 : start + size] = struct.pack(
        "<I", zlib.crc32(header)
    )
    yield bytes(packed)


# -- disks


@_file
def raw_disk_without_end() -> Pieces:
    head = bytearray(MIB)
    head[510:512] = b"\x55\xaa"
    yield bytes(head)
    for _ in range(1536):
        yield b"x" * MIB


def _qcow2(
    *,
    size: int,
    bits: int,
    l1: bytes,
    features: int = 0,
    refcounts: int = 0,
    rest: Pieces = (),
) -> Pieces:
    """Make an image; ``refcounts`` is the cluster of their table, if any."""
    cluster = 1 << bits
    head = struct.pack(
        ">4sIQIIQIIQQIIQQQQIIB7x",
        *(b"QFI\xfb", 3, 0, 0, bits, size, 0, len(l1) // 8, cluster),
        *(refcounts * cluster, min(refcounts, 1), 0, 0),
        *(features, 0, 0, 4, 112, int(features == 8)),
    )
    yield head.ljust(cluster, b"\0")
    yield l1.ljust(-(-len(l1) // cluster) * cluster, b"\0")
    yield from rest


@_file
def qcow2_of_one_cluster() -> Pieces:
    """Have 1536 clusters of 2 MiB be the same one; QEMU has to rewrite it."""
    bits, count = 21, 1536
    cluster = 1 << bits
    table = struct.pack(">Q", 3 * cluster | 1 << 63) * count
    return _qcow2(
        size=count << bits,
        bits=bits,
        l1=struct.pack(">Q", 2 * cluster | 1 << 63),
        features=1 << 3,
        refcounts=4,
        rest=[
            table.ljust(cluster, b"\0"),
            b"x" * cluster,
            struct.pack(">Q", 5 * cluster).ljust(cluster, b"\0"),
            struct.pack(">6H", *[1] * 6).ljust(cluster, b"\0"),
        ],
    )


@_file
def qcow2_of_one_cluster_plain() -> Pieces:
    bits, count = 21, 1536
    cluster = 1 << bits
    table = struct.pack(">Q", 3 * cluster | 1 << 63) * count
    return _qcow2(
        size=count << bits,
        bits=bits,
        l1=struct.pack(">Q", 2 * cluster | 1 << 63),
        rest=[table.ljust(cluster, b"\0"), b"x" * cluster],
    )


@_file
def qcow2_of_many_tables() -> Pieces:
    """Have a million small tables be the same one."""
    bits, count = 9, 1_000_000
    place = 512 + -(-8 * count // 512) * 512
    return _qcow2(
        size=count * 64 << bits,
        bits=bits,
        l1=struct.pack(">Q", place) * count,
        rest=[bytes(512)],
    )


@_disk
def overlapping_extents(disk: Path) -> None:
    """Have dpkg's records be the same 16 MiB a thousand times."""
    node = "x" * 4096
    files = small_disks.system(**{"etc/node": node})
    small_disks.make(disk, files, ext4=["-b", "4096"])
    content = bytearray(disk.read_bytes())
    _overlap(content)
    disk.write_bytes(content)


def _overlap(content: bytearray) -> None:
    start = small_disks.ROOT_START

    def read(offset: int, size: int) -> bytes:
        return bytes(content[offset : offset + size]).ljust(size, b"\0")

    root = Ext4(read, _partition(start))
    node = root.inode(root.names("etc")["node"])
    (leaf,) = struct.unpack_from("<I", node.block, 20)
    status = root.inode(root.names("var/lib/dpkg")["status"])
    place = content.index(status.block, start) - 0x28
    extent = struct.pack("<IHHI", 0, 4096, 0, 0)
    leaf_node = struct.pack("<HHHHI", 0xF30A, 340, 340, 0, 0) + extent * 340
    content[start + leaf * 4096 : start + (leaf + 1) * 4096] = leaf_node.ljust(
        4096, b"\0"
    )
    index = struct.pack("<IIHH", 0, leaf, 0, 0)
    tree = struct.pack("<HHHHI", 0xF30A, 4, 4, 1, 0) + index * 4
    content[place + 4 : place + 8] = struct.pack("<I", 16 * MIB)
    content[place + 0x28 : place + 0x28 + 60] = tree


def _partition(start: int) -> partitions.Partition:
    return partitions.Partition(
        start=start, size=small_disks.ROOT_SIZE, esp=False
    )


@_disk
def many_kernels(disk: Path) -> None:
    files = {
        f"usr/lib/modules/{number}{'k' * 240}/kernel/fs/9p": ""
        for number in range(4000)
    } | small_disks.system()
    small_disks.make(disk, files, ext4=["-b", "1024", "-N", "20000"])


@_disk
def overlapping_partitions(disk: Path) -> None:
    """Have a root directory that is long be in 900 partitions."""
    small_disks.make(disk, small_disks.system())
    content = bytearray(disk.read_bytes())
    entries = bytes(content[1024 : 1024 + 128 * 128])
    first, root = entries[:128], entries[128:256]
    table = (first + root * 900).ljust(1024 * 128, b"\0")
    # There is room for a longer table in the last MiB.
    place = len(content) // 512 - 400
    content[place * 512 : place * 512 + len(table)] = table
    header = bytearray(content[512:604])
    struct.pack_into("<Q", header, 72, place)
    struct.pack_into("<I", header, 80, 1024)
    struct.pack_into("<I", header, 88, zlib.crc32(table))
    header[16:20] = bytes(4)
    struct.pack_into("<I", header, 16, zlib.crc32(header))
    content[512:604] = header
    disk.write_bytes(content)


@_disk
def circle_in_a_fat(disk: Path) -> None:
    """Have a boot loader of 4 GiB that goes round two clusters."""
    small_disks.make(disk, small_disks.system(), fat=["-F", "16", "-s", "2"])
    content = bytearray(disk.read_bytes())
    place = content.index(b"BOOTX64 EFI")
    (cluster,) = struct.unpack_from("<H", content, place + 26)
    content[place + 28 : place + 32] = b"\xff" * 4
    reserved, fats = struct.unpack_from("<HB", content, MIB + 14)
    del fats
    table = MIB + reserved * 512
    struct.pack_into("<H", content, table + 2 * cluster, cluster)
    # Its first cluster says that the certificates are at the end.
    (entries,) = struct.unpack_from("<H", content, MIB + 17)
    (fat_size,) = struct.unpack_from("<H", content, MIB + 22)
    data = MIB + (reserved + 2 * fat_size) * 512 + entries * 32
    start = data + (cluster - 2) * 1024
    head = bytearray(1024)
    struct.pack_into("<I", head, 60, 128)
    head[128:132] = b"PE\0\0"
    head[152:154] = b"\x0b\x02"
    struct.pack_into("<II", head, 128 + 24 + 112 + 32, (1 << 32) - 70_000, 9)
    content[start : start + 1024] = head
    disk.write_bytes(content)


def survey(content: bytes) -> None:
    """Look at a disk in memory."""

    class Memory:
        size = len(content)

        def read(self, offset: int, size: int) -> bytes:
            return content[offset : offset + size].ljust(size, b"\0")

    disk_survey.survey(Memory(), Budget())  # type: ignore[arg-type]


def archive(*members: bytes) -> io.BytesIO:
    """Return an archive of a small system and some more."""
    return io.BytesIO(SYSTEM + b"".join(members) + END)
