# SPDX-License-Identifier: GPL-3.0-or-later
"""From a tarball to a root file system, or to a refusal that says why."""

import contextlib
import gc
import hashlib
import io
import os
import random
import re
import signal
import subprocess
import sys
import tarfile
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from incus_testbed import errors
from incus_testbed.image import convert as module
from incus_testbed.system.entry import Entry
from tests.support import conversion, tarballs, trees
from tests.support.conversion import Converted as Conversion

PACKERS = {
    "plain": ["cat"],
    "gzip": ["gzip", "-c"],
    "bzip2": ["bzip2", "-c"],
    "xz": ["xz", "-c0"],
    "xz in blocks": ["xz", "-c0", "-T2", "--block-size=4096"],
    "zstd": ["zstd", "-qc"],
    "pzstd": ["sh", "-c", r"printf '\120\52\115\30\4\0\0\0abcd'; zstd -qc"],
}
packed = pytest.mark.parametrize("packer", PACKERS)
several = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
ADDITION = Entry(path="added", kind="file", content=b"by us\n", mode=0o640)
DATE = 1_600_000_000


class _AnySurvey:
    """Takes any archive for a system; the real one has tests of its own."""

    def __init__(self, budget: object, directories: object = ()) -> None:
        pass

    def wants_content(self, path: str) -> bool:
        return path == "wanted"

    def check_size(self, path: str, size: int) -> None:
        pass

    def visit(self, entry: Entry) -> None:
        pass

    def facts(self) -> "_AnySurvey":
        return self


@pytest.fixture(autouse=True, scope="module")
def _any_survey() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "Survey", _AnySurvey)
        yield


@pytest.fixture(autouse=True)
def _nothing_is_left() -> Iterator[None]:
    """Fail a test after which a child, a thread or an open file is left."""
    gc.collect()  # what other tests have dropped may still be open
    files, threads = _open_files(), threading.active_count()
    yield
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)
    assert _open_files() <= files
    assert threading.active_count() <= threads


def _open_files() -> set[str]:
    return {file.name for file in Path("/proc/self/fd").iterdir()}


def pack(data: bytes, packer: str) -> bytes:
    return subprocess.run(
        PACKERS[packer], input=data, stdout=subprocess.PIPE, check=True
    ).stdout


def convert(
    source: IO[bytes] | bytes,
    *,
    progress: Callable[[int], None] | None = None,
    additions: tuple[Entry, ...] = (),
) -> tuple[Conversion, bytes]:
    """Convert, and return the result's uncompressed bytes as well."""
    if isinstance(source, bytes):
        source = io.BytesIO(source)
    with _unnamed() as rootfs:
        made = conversion.convert(
            source,
            rootfs,
            additions=lambda _: additions,
            date=DATE,
            progress=progress,
        )
        rootfs.seek(0)
        out = subprocess.run(
            ["zstd", "-qdc"], stdin=rootfs, stdout=subprocess.PIPE, check=True
        ).stdout
    return made, out


@contextlib.contextmanager
def _unnamed() -> Iterator[IO[bytes]]:
    file = os.open("/var/tmp", os.O_TMPFILE | os.O_RDWR)
    with os.fdopen(file, "w+b") as opened:
        yield opened


def refusal(source: IO[bytes] | bytes) -> errors.BadImage:
    with pytest.raises(errors.BadImage) as caught:
        convert(source)
    return caught.value


def archive(*members: tuple[str, bytes] | tarfile.TarInfo) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return out.getvalue()


def link(
    name: str, target: str, typeflag: bytes = tarfile.SYMTYPE
) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = typeflag, target
    return member


def sample() -> bytes:
    """Make an archive that does not fit into a pipe, packed or not."""
    noise = random.Random(1).randbytes(300_000)  # noqa: S311
    return archive(("etc/noise", noise), ("etc/zeros", bytes(300_000)))


# -- what comes out


@packed
def test_a_tarball_of_any_packing(packer: str) -> None:
    plain = sample()
    source = pack(plain, packer)
    conversion, out = convert(source, additions=(ADDITION,))
    with tarfile.open(fileobj=io.BytesIO(out)) as tar:
        assert tar.getnames() == ["etc/noise", "etc/zeros", "added"]
        added = tar.getmember("added")
        file = tar.extractfile(added)
        assert file
        assert file.read() == ADDITION.content
        assert (added.mode, added.mtime, added.uid) == (0o640, DATE, 0)
    assert conversion.sha256 == hashlib.sha256(source).hexdigest()
    assert conversion.source_size == len(source)
    assert conversion.unpacked_size == len(out)


@packed
def test_a_pipe_is_read_to_its_end(packer: str) -> None:
    source = pack(sample(), packer)
    with subprocess.Popen(
        ["sh", "-c", "head -c 100; sleep 0.2; cat"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as writer:
        assert writer.stdin
        assert writer.stdout
        feeder = threading.Thread(
            target=lambda pipe: (pipe.write(source), pipe.close()),
            args=(writer.stdin,),
        )
        feeder.start()
        conversion, _ = convert(writer.stdout)
        feeder.join()
    assert conversion.sha256 == hashlib.sha256(source).hexdigest()


def test_bytes_after_what_bzip2_reads_are_counted_too() -> None:
    source = pack(sample(), "bzip2") + b"ignored" * 100_000
    conversion, _ = convert(source)
    assert conversion.sha256 == hashlib.sha256(source).hexdigest()


def test_a_plain_tarball_may_begin_like_a_packed_one() -> None:
    _, out = convert(archive(("BZh9", b"")))
    assert out.startswith(b"BZh9")


def test_progress_ends_with_the_size() -> None:
    told: list[int] = []
    conversion, _ = convert(pack(sample(), "xz"), progress=told.append)
    assert told == sorted(told)
    assert told[-1] == conversion.source_size


def test_additions_know_the_facts() -> None:
    with _unnamed() as rootfs:
        made = conversion.convert(
            io.BytesIO(sample()),
            rootfs,
            additions=lambda facts: [
                Entry(path="f", kind="symlink", target=type(facts).__name__)
            ],
            date=DATE,
        )
    assert type(made.facts).__name__ == "_AnySurvey"


@pytest.mark.slow
@settings(several, max_examples=300)
@given(tarballs.archives())
def test_gnu_tar_unpacks_the_same(source: bytes) -> None:
    try:
        _, out = convert(source)
    except errors.BadImage as refused:
        outside = "outside its root" in refused.brief
        assert outside or trees.unpacked(source)[0]
        return
    assert trees.unpacked(out) == trees.unpacked(source)


def test_gnu_tar_unpacks_odd_files_the_same() -> None:
    for part in tarballs.gnu_tar_parts():
        _, out = convert(part + tarballs.END)
        status, tree = trees.unpacked(out)
        assert (status, tree) == trees.unpacked(part + tarballs.END)
        assert tree


def test_a_global_header_does_not_speak_for_the_additions() -> None:
    globals_ = tarfile.TarInfo.create_pax_global_header(
        {"uid": "1234", "gname": "someone", "mtime": "1", "comment": "x"}
    )
    _, out = convert(globals_ + archive(("a", b"")), additions=(ADDITION,))
    listed = subprocess.run(
        ["tar", "-tv", "--full-time", "--utc"],
        input=out,
        env={"LC_ALL": "C"},
        stdout=subprocess.PIPE,
        check=True,
    ).stdout.decode()
    assert re.search(r"1234/someone .* 1970-01-01 00:00:01 a\n", listed)
    assert re.search(r"root/root .* 2020-09-13 12:26:40 added\n", listed)


# -- what is refused


def test_nothing() -> None:
    assert refusal(b"").brief == "The file is empty"


@packed
def test_nothing_in_a_packing(packer: str) -> None:
    assert refusal(pack(b"", packer)).brief == "The file is empty"


def test_an_archive_of_nothing() -> None:
    assert refusal(archive()).brief == "The archive is empty"


def _shown(value: object) -> str:
    """Keep binary content out of the tests' names."""
    return value if isinstance(value, str) else "content"


@packed
@pytest.mark.parametrize(
    ("content", "seems"),
    [
        (b"PK\3\4" + bytes(600), "zip"),
        (b"!<arch>\ndebian-binary" + bytes(600), ".deb"),
        (b"070701" + bytes(600), "cpio"),
        (b"<!DOCTYPE html><title>Log in</title>", "web page"),
        (b"\x04\x22\x4d\x18" + bytes(600), "lz4"),
        (b"just text\n" * 200, ""),
        (b"short", ""),
    ],
    ids=_shown,
)
def test_no_archive(packer: str, content: bytes, seems: str) -> None:
    refused = refusal(pack(content, packer))
    assert refused.brief == "The file is not an archive that tar can read"
    assert seems in refused.details
    assert "xz" in refused.resolution


@packed
@pytest.mark.parametrize(
    ("content", "seems"),
    [
        (b"KDMV" + bytes(600), "VMDK"),
        (b"conectix" + bytes(600), "VHD"),
    ],
    ids=_shown,
)
def test_a_disk_image(packer: str, content: bytes, seems: str) -> None:
    refused = refusal(pack(content, packer))
    assert "a disk image of a kind that can't be used" in refused.brief
    assert seems in refused.details
    assert "qemu-img convert" in refused.resolution


def test_squashfs() -> None:
    refused = refusal(b"hsqs" + bytes(600))
    assert "squashfs" in refused.brief
    assert "sqfs2tar" in refused.resolution


@pytest.mark.parametrize("name", ["./disk.img", "root.raw", "a.qcow2"])
def test_a_disk_image_in_a_tarball(name: str) -> None:
    folder = tarfile.TarInfo(".")
    folder.type = tarfile.DIRTYPE
    refused = refusal(archive(folder, (name, b"disk")))
    assert "a disk image of a kind that can't be used" in refused.brief
    assert "image alone" in refused.resolution
    convert(archive((name, b"disk"), ("etc/passwd", b"")))


@pytest.mark.parametrize(
    "members",
    [
        [("../etc/shadow", b"")],
        [("./usr/../../etc/shadow", b"")],
        [("..", b"")],
        [link("stolen", "../../etc/shadow", tarfile.LNKTYPE)],
        [link("exit", "/etc"), ("exit/shadow", b"")],
        [link("./exit", "../../etc"), ("/exit/shadow", b"")],
        [link("a/exit", "b/../../../etc"), ("a/./exit/deep/shadow", b"")],
        [link("exit", "/etc"), link("s", "exit/shadow", tarfile.LNKTYPE)],
    ],
)
def test_an_entry_outside_the_root(
    members: list[tuple[str, bytes] | tarfile.TarInfo],
) -> None:
    assert "outside its root" in refusal(archive(*members)).brief


@pytest.mark.parametrize("name", [".", "./", "/", ".//."])
@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE])
def test_a_root_that_is_no_directory(name: str, kind: bytes) -> None:
    source = archive(("etc/passwd", b""), link(name, "elsewhere", kind))
    assert "replaces its root" in refusal(source).brief


@pytest.mark.parametrize(
    "members",
    [
        [("/etc/passwd", b"")],
        [("a..b/..c", b"")],
        [link("lib", "usr/lib"), ("lib/file", b"")],
        [link("etc/localtime", "/usr/share/zoneinfo/UTC")],
        [link("a", "/b"), link("a", "c"), ("a/file", b"")],
    ],
)
def test_an_entry_inside_the_root(
    members: list[tuple[str, bytes] | tarfile.TarInfo],
) -> None:
    convert(archive(*members))


def test_an_addition_through_an_exit_of_the_image() -> None:
    source = archive(link("etc", "/elsewhere"))
    with pytest.raises(errors.BadImage):
        convert(source, additions=(Entry(path="etc/x", kind="file"),))


@packed
def test_every_kind_of_cut(packer: str) -> None:
    whole = pack(sample(), packer)
    padding = len(whole) - len(whole.rstrip(b"\0")) if packer == "plain" else 0
    for cut in {1, 5, 100, len(whole) // 2, len(whole) - padding - 1}:
        refused = refusal(whole[:cut])
        assert cut < 600 or "cut short" in refused.brief


@pytest.mark.parametrize(
    "packer", [name for name in PACKERS if name != "plain"]
)
@several
@given(cut=st.floats(0, 1, exclude_max=True))
def test_no_part_of_a_packed_archive_is_taken(packer: str, cut: float) -> None:
    whole = pack(archive(("a", b"some"), ("b", b"more")), packer)
    refusal(whole[: int(len(whole) * cut)])


@pytest.mark.slow
@several
@given(
    packer=st.sampled_from([name for name in PACKERS if name != "plain"]),
    place=st.floats(0.1, 1, exclude_max=True),
)
def test_damage_to_a_packed_archive(packer: str, place: float) -> None:
    whole = bytearray(pack(sample(), packer))
    whole[int(len(whole) * place)] ^= 0x55
    with contextlib.suppress(errors.BadImage):  # some bits mean nothing
        _, out = convert(bytes(whole))
        assert out.startswith(sample().rstrip(b"\0"))


def test_a_bad_header_in_the_middle() -> None:
    source = bytearray(archive(("a", b"x" * 512), ("b", b"")))
    source[1024:1034] = b"scribbling"
    assert refusal(bytes(source)).brief == "The archive is corrupt"


def test_a_block_of_zeros_in_the_middle() -> None:
    source = bytearray(archive(("a", b""), ("b", b""), ("c", b"")))
    source[512:1024] = bytes(512)
    assert refusal(bytes(source)).brief == "The archive is corrupt"


def test_two_archives_in_a_row() -> None:
    refused = refusal(archive(("a", b"")) + archive(("b", b"")))
    assert refused.brief == "The archive goes on after its end"
    assert "--concatenate" in refused.resolution


def test_a_header_that_claims_to_be_huge() -> None:
    member = tarfile.TarInfo("a")
    member.type, member.size = tarfile.GNUTYPE_LONGNAME, 1 << 40
    source = member.tobuf(tarfile.GNU_FORMAT) + bytes(1 << 16)
    # From 3.14 on tarfile reads what there is before it wonders.
    assert refusal(source).brief in {
        "The archive is corrupt",
        "The archive is cut short",
        "The archive's headers are too long",
    }


def test_headers_without_end() -> None:
    record = tarfile.TarInfo.create_pax_global_header({"comment": "x"})
    assert refusal(record * 5000).brief == "The archive is corrupt"


def test_a_negative_size() -> None:
    header = bytearray(tarfile.TarInfo("a").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"\xff" * 10 + b"\xfc\x00"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    refusal(bytes(header) + tarballs.END)


# -- what else can go wrong


def test_no_space() -> None:
    source = random.Random(2).randbytes(5_000_000)  # noqa: S311
    with (
        Path("/dev/full").open("r+b", buffering=0) as full,
        pytest.raises(errors.NoSpace) as caught,
    ):
        conversion.convert(
            io.BytesIO(archive(("noise", source))),
            full,
            additions=lambda _: (),
            date=DATE,
        )
    assert "TMPDIR" in caught.value.resolution


@pytest.mark.parametrize(
    ("packer", "package"), [("xz", "xz-utils"), ("zstd", "zstd")]
)
def test_a_program_that_is_not_there(
    packer: str,
    package: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    source = pack(sample(), packer)
    if packer != "zstd":
        (tmp_path / "zstd").symlink_to("/usr/bin/zstd")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(errors.MissingProgram) as caught:
        convert(source)
    assert package in caught.value.resolution


@packed
@pytest.mark.parametrize("trouble", [KeyboardInterrupt, OSError, MemoryError])
def test_trouble_of_the_callers(
    packer: str, trouble: type[BaseException]
) -> None:
    def give_up(_: int) -> None:
        raise trouble

    with pytest.raises(trouble):
        convert(pack(sample(), packer), progress=give_up)


@packed
def test_an_interrupt_while_the_source_is_silent(packer: str) -> None:
    """A Ctrl-C ends it, though no more will ever come from the pipe."""
    read_end, write_end = os.pipe()
    os.write(write_end, pack(sample(), packer)[:30_000])
    usual = signal.signal(signal.SIGALRM, signal.default_int_handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        with (
            os.fdopen(read_end, "rb") as source,
            pytest.raises(KeyboardInterrupt),
        ):
            convert(source)
    finally:
        signal.signal(signal.SIGALRM, usual)
        os.close(write_end)


@pytest.mark.slow
@pytest.mark.parametrize(
    "make",
    [
        "one(300 << 20)",
        "(one(0) for _ in range(20_000))",
    ],
)
def test_memory_does_not_grow_with_the_source(make: str) -> None:
    program = """
        import os, resource, sys, tarfile, tempfile
        from incus_testbed.image import convert as module
        from tests.support import conversion
        from tests.unit.image.test_convert import _AnySurvey
        module.Survey = _AnySurvey

        def one(size):
            member = tarfile.TarInfo("usr/share/doc/file")
            member.size = size
            yield member.tobuf()
            for _ in range(size >> 20):
                yield bytes(1 << 20)

        def write(pipe):
            made = MAKE
            for part in made:
                for piece in [part] if isinstance(part, bytes) else part:
                    pipe.write(piece)
            pipe.write(bytes(10240))

        reading, writing = os.pipe()
        if not os.fork():
            os.close(reading)
            with open(writing, "wb") as pipe:
                write(pipe)
            os._exit(0)
        os.close(writing)
        peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        before = peak()
        with open(reading, "rb") as source, tempfile.TemporaryFile() as out:
            conversion.convert(source, out, additions=lambda _: (), date=0)
        print(peak() - before)
    """
    grown = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program).replace("MAKE", make)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        check=True,
    ).stdout
    assert int(grown) < 24 << 10  # KiB


def test_an_interrupt_in_the_middle_ends_it_at_once() -> None:
    class Endless:
        """An archive of one member that never ends."""

        def __init__(self) -> None:
            member = tarfile.TarInfo("endless")
            member.size = 1 << 40
            self._head = member.tobuf(tarfile.GNU_FORMAT)

        def read(self, size: int) -> bytes:
            data, self._head = self._head or bytes(size), b""
            return data

    sent: list[float] = []

    def interrupt(_number: int, _frame: object) -> None:
        sent.append(time.monotonic())
        raise KeyboardInterrupt

    usual = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.5)
    try:
        with _unnamed() as rootfs, pytest.raises(KeyboardInterrupt):
            conversion.convert(
                Endless(), rootfs, additions=lambda _: (), date=DATE
            )
    finally:
        signal.signal(signal.SIGALRM, usual)
    # A second, on a machine that has nothing else to do.
    assert time.monotonic() - sent[0] < 10
