# SPDX-License-Identifier: GPL-3.0-or-later
"""What is tried: each parser with files that are almost right.

A target is called with random numbers; it may raise errors.TestbedError, and
nothing else.
"""

import bz2
import functools
import gzip
import io
import lzma
import os
import shutil
import struct
import subprocess
import tarfile
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from random import Random

from incus_testbed.customise import customisation
from incus_testbed.image.disk import efi, partitions, qcow2
from incus_testbed.image.disk import shape as shapes
from incus_testbed.image.disk import survey as disk_survey
from incus_testbed.image.disk.fat import Fat
from incus_testbed.image.disk.packed import Packed
from incus_testbed.image.disk.partitions import Partition
from incus_testbed.image.disk.reader import Reader
from incus_testbed.image.stream import compression, scratch
from incus_testbed.image.tar.archive import Archive
from incus_testbed.image.tar.escape import Confinement
from incus_testbed.limits.budget import Budget, Meter
from incus_testbed.system import os_release, packages, unit_file
from incus_testbed.system.survey import Survey
from tests.fuzz import mutation, wire
from tests.support import small_disks, tarballs, tiny_system
from tests.support.conversion import convert
from tests.support.disks import MIB
from tests.unit.system.test_facts import NETWORKD, STATUS

Target = Callable[[Random], None]
TARGETS: dict[str, Target] = dict(wire.TARGETS)

_BLOCK = tarfile.BLOCKSIZE
_REWRITE = ("qemu-img", "convert", "-f", "raw", "-O", "qcow2")


def _target(run: Target) -> Target:
    TARGETS[run.__name__] = run
    return run


def available(name: str) -> bool:
    """Tell whether the programs are there that make a target's files."""
    wanted = {
        "qcow2_images": ("qemu-img",),
        "gpt": (),
    }.get(name, ("mkfs.vfat", "mcopy", "mke2fs", "sfdisk"))
    return name not in _OF_DISKS or all(map(shutil.which, wanted))


_OF_DISKS = {"fat", "ext4", "qcow2_images"}


# -- archives


@functools.cache
def _archives() -> tuple[bytes, ...]:
    parts = tarballs.gnu_tar_parts()
    system = tiny_system.tarball()
    return (
        *[system] * len(parts),
        *(part + tarballs.END for part in parts),
        b"".join(parts) + tarballs.END,
    )


@_target
def tar(random: Random) -> None:
    """Look at an archive, and add to it, as an import does."""
    data = _mended(random, mutation.one_of(random, _archives()))
    if not data:
        return
    meter = Meter(packed=lambda: len(data))
    archive = Archive(
        meter.counted(tarballs.in_pieces(data, [1 << 20])),
        lambda _: None,
        meter,
    )
    survey, confinement = Survey(meter.budget), Confinement(meter.budget)
    for entry in archive.entries(survey.wants_content, survey.check_size):
        confinement.check(entry)
        survey.visit(entry)
    confinement.finish()
    for entry in customisation.entries(survey.facts()):
        archive.append(entry, date=0)
    archive.end()


@_target
def packed_disks(random: Random) -> None:
    """Look at an archive that may hold a disk."""
    data = _mended(random, mutation.one_of(random, _packed_disks()))
    if shapes.shape(data) != "packed":
        return
    packed = Packed(tarballs.in_pieces(data, [1 << 20]), Budget())
    for _ in packed.pieces():
        pass


@functools.cache
def _packed_disks() -> tuple[bytes, ...]:
    with tempfile.TemporaryDirectory() as name:
        disk = bytearray(3 * MIB)
        disk[510:512] = b"\x55\xaa"
        for place in range(MIB, 2 * MIB, 65536):
            disk[place] = 1
        Path(name, "disk").write_bytes(disk)
        subprocess.run(["fallocate", "-d", Path(name, "disk")], check=False)
        sparse = ["-C", name, "--sparse", "disk"]
        return tuple(
            tarballs.body_of([f"--format={kind}", *more, *sparse])
            + tarballs.END
            for kind, more in (
                ("gnu", []),
                *(
                    ("posix", [f"--sparse-version={version}"])
                    for version in tarballs.SPARSE_VERSIONS
                ),
            )
        )


def _mended(random: Random, data: bytes) -> bytes:
    """Have some headers' checksums be right."""
    if random.random() < 0.3:
        return data
    fixed = bytearray(data)
    for start in range(0, min(len(fixed), 64 * _BLOCK) - _BLOCK, _BLOCK):
        header = fixed[start : start + _BLOCK]
        if header[257:262] == b"ustar":
            header[148:156] = b" " * 8
            fixed[start + 148 : start + 156] = b"%06o\0 " % sum(header)
    return bytes(fixed)


# -- packed files


@functools.cache
def _packed() -> tuple[bytes, ...]:
    plain = tiny_system.tarball()
    zstd = subprocess.run(
        ["zstd", "-qc"], input=plain, stdout=subprocess.PIPE, check=True
    ).stdout
    return (
        gzip.compress(plain),
        bz2.compress(plain),
        lzma.compress(plain),
        zstd,
        b"\x50\x2a\x4d\x18\4\0\0\0abcd" + zstd,
    )


@_target
def compression_headers(random: Random) -> None:
    """Tell by its beginning how a file is packed, and what is in it."""
    data = random.choice((*_packed(), *_beginnings()))[:_HEAD]
    if random.random() < 0.9:
        data = mutation.changed(random, data)
    budget = Budget()
    argv = compression.decompressor(data, budget)
    assert argv is None or argv[0] in {"gzip", "bzip2", "xz", "zstd"}
    if argv and argv[0] in {"xz", "zstd"}:
        assert any(f"={budget.decompressor_bytes}" in word for word in argv)
    length = shapes.length(budget)
    assert shapes.shape(data[:length]) in {None, "packed", "qcow2", "raw"}


#: No header of a packed file is longer, nor what tells disks from archives.
_HEAD = 70_000


@functools.cache
def _beginnings() -> tuple[bytes, ...]:
    return (
        tiny_system.tarball()[:_HEAD],
        _disk()[:_HEAD] if available("ext4") else bytes(_HEAD),
        *(archive[:_HEAD] for archive in _packed_disks()),
    )


@_target
def decompressors(random: Random) -> None:
    """Convert a packed file, of which most changes are at its beginning."""
    data = random.choice(_packed())
    head = random.choice((16, 64, len(data)))
    data = mutation.changed(random, data[:head]) + data[head:]
    with scratch.file() as rootfs:
        convert(
            io.BytesIO(data),
            rootfs,
            additions=customisation.entries,
            date=0,
            budget=Budget(unpacked_bytes=64 << 20),
        )


# -- disks


class _Overlay:
    """A disk in memory, with changes."""

    def __init__(self, content: bytes, changes: list[mutation.Change]) -> None:
        self.size = len(content)
        self._content = content
        self._changes = changes
        self._reads = 0

    def read(self, offset: int, size: int) -> bytes:
        self._reads += 1
        # As the reader of a real disk does, which also counts bytes.
        if self._reads > Budget().survey_reads:
            raise Budget().refusal("survey_reads", "Too much is read", "")
        size_there = max(0, min(size, self.size - offset))
        data = bytearray(self._content[offset : offset + size_there])
        data += bytes(size - size_there)
        for place, value in self._changes:
            start = place - offset
            if start >= 0 and start + len(value) <= size:
                data[start : start + len(value)] = value
        return bytes(data)


@functools.cache
def _disk() -> bytes:
    with small_disks.made(small_disks.system()) as disk:
        return disk.read_bytes()


@_target
def gpt(random: Random) -> None:
    """Read a partition table whose checksums are right, mostly."""
    sector = random.choice((512, 4096))
    count = random.randint(0, 6)
    entry = struct.pack("<16s16sQQ80x", b"x" * 16, b"y" * 16, 34, 60)
    entries = mutation.changed(random, (entry * count).ljust(4096, b"\0"))
    header = struct.pack(
        "<8s4sIIIQQQQ16sQIII",
        *(b"EFI PART", b"\0\0\1\0", 92, 0, 0, 1, 99, 2, 98, bytes(16)),
        *(2, len(entries) // 128, 128, zlib.crc32(entries)),
    )
    header = header[:16] + struct.pack("<I", zlib.crc32(header)) + header[20:]
    if random.random() < 0.4:
        header = mutation.changed(random, header).ljust(92, b"\0")
    content = bytes(sector) + header.ljust(sector, b"\0") + entries
    disk = _Overlay(content.ljust(100 * sector, b"\0"), [])
    partitions.partitions(disk.read, disk.size)


@_target
def fat(random: Random) -> None:
    """Read a boot loader; most changes are in tables and folders."""
    content = _disk()

    def place(random: Random) -> int:
        return MIB + random.choice(
            (random.randrange(64), random.randrange(1 << 17))
        )

    disk = _Overlay(content, mutation.changes(random, len(content), place))
    part = Partition(start=MIB, size=small_disks.ESP_SIZE, esp=True)
    efi.boot_loader(Fat(disk.read, part))


@_target
def ext4(random: Random) -> None:
    """Survey a whole disk; most changes are in the root's structures."""
    content = _disk()
    places = _structures()

    def place(random: Random) -> int:
        return random.choice(places) + random.randrange(256)

    disk = _Overlay(content, mutation.changes(random, len(content), place))
    disk_survey.survey(disk, Budget())  # type: ignore[arg-type]


@functools.cache
def _structures() -> tuple[int, ...]:
    """Return where the root file system has been seen to be read."""
    places: set[int] = {small_disks.ROOT_START + 1024}

    class Noted(_Overlay):
        def read(self, offset: int, size: int) -> bytes:
            if offset >= small_disks.ROOT_START:
                places.update(range(offset, offset + size, 256))
            return super().read(offset, size)

    disk_survey.survey(Noted(_disk(), []), Budget())  # type: ignore[arg-type]
    return tuple(sorted(places))


@functools.cache
def _qcow2() -> tuple[bytes, ...]:
    with tempfile.TemporaryDirectory() as name:
        raw, image = Path(name, "raw"), Path(name, "image")
        raw.write_bytes(bytes(MIB) + b"some data" * 9000 + bytes(3 * MIB))
        made = []
        for options in (
            [],
            ["-c"],
            ["-o", "cluster_size=512"],
            ["-o", "compat=0.10"],
            ["-c", "-o", "cluster_size=4096"],
        ):
            subprocess.run(
                [*_REWRITE, *options, str(raw), str(image)],
                check=True,
            )
            made.append(image.read_bytes())
        return tuple(made)


@_target
def qcow2_images(random: Random) -> None:
    """Check a qcow2 image, and read of it here and there."""
    data = random.choice(_qcow2())
    head = random.choice((112, 4096, len(data)))
    data = mutation.changed(random, data[:head]) + data[head:]
    file = os.memfd_create("image")
    with os.fdopen(file, "w+b") as opened:
        opened.write(data)
        opened.flush()
        reader = Reader(opened, qcow2.header(data[: qcow2.HEADER]), Meter())
        reader.check()
        for _ in range(20):
            reader.read(random.randrange(reader.size + 1), 70_000)


# -- texts


@_target
def dpkg_status(random: Random) -> None:
    """Read dpkg's records."""
    text = mutation.changed(random, STATUS.encode() * 3)
    packages.installed(text, ("systemd", "dpkg"))


@_target
def unit_files(random: Random) -> None:
    """Read what a unit file says of enabling it."""
    data = mutation.changed(random, NETWORKD.encode())
    unit_file.install(data.decode(errors="replace"))


@_target
def configuration(random: Random) -> None:
    """Customise a system whose files of configuration are odd."""
    texts = {
        path: mutation.changed(random, content)
        for path, content in _CONFIGURATION.items()
    }
    packed = io.BytesIO(tiny_system.tarball().rstrip(b"\0"))
    size = len(packed.getvalue())
    packed.seek(size + -size % _BLOCK)
    for path, content in texts.items():
        info = tarfile.TarInfo(path)
        info.size = len(content)
        packed.write(info.tobuf(tarfile.USTAR_FORMAT))
        packed.write(content + bytes(-len(content) % _BLOCK))
    packed.write(tarballs.END)
    archive = Archive(
        tarballs.in_pieces(packed.getvalue(), [1 << 20]), lambda _: None
    )
    survey = Survey()
    for entry in archive.entries(survey.wants_content, survey.check_size):
        survey.visit(entry)
    facts = survey.facts()
    customisation.check(facts)
    customisation.entries(facts)
    os_release.fields(texts["usr/lib/os-release"].decode(errors="replace"))


_CONFIGURATION = {
    "usr/lib/os-release": b'ID=debian\nVERSION_CODENAME="trixie"\nVERSION=x\n',
    "etc/network/interfaces": b"source /etc/network/interfaces.d/*\nauto lo\n"
    b"iface lo inet loopback\nallow-hotplug eth0\niface eth0 inet dhcp\n",
    "etc/network/interfaces.d/nic": b"auto host0 eth0\niface host0 inet dhcp\n",
    "etc/default/networking": b"#EXCLUDE_INTERFACES=\n",
    "etc/inittab": b"1:2345:respawn:/sbin/getty 38400 tty1\npf::powerwait:x\n",
    "etc/debian_version": b"trixie/sid\n",
    "usr/sbin/ifup": b"x",
    "usr/lib/systemd/system/systemd-networkd.service": NETWORKD.encode(),
}
