# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of any provenance: tarballs, Incus' own, without bash, with users."""

import contextlib
import io
import json
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from incus_testbed.cleanup import eviction
from incus_testbed.image.store import Store, content_alias
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import Image
from incus_testbed.instance.instance import Instance
from incus_testbed.virt_server.testbed import Testbed

from .conftest import Start

#: Only what incus-testbed imports says itself which profile it wants.
_PROFILE = "--profile=debusine"
_NETWORKD = (
    "etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
)


def _unpacked(packed: Path, target: Path) -> Path:
    with target.open("wb") as plain:
        subprocess.run(["zstd", "-dc", packed], stdout=plain, check=True)
    return target


def _add(archive: tarfile.TarFile, name: str, content: str) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content.encode()))


def _use(start: Start, *arguments: str) -> None:
    """Do with an image what a run of tests may do."""
    server = start(*arguments)
    (scratch,) = server.ask("open")
    assert server.output("echo", "here") == "here"
    assert server.execute("sh", "-c", "exit 255").returncode == 253
    boot = server.boot()
    server.ask("reboot")
    assert server.boot() != boot
    assert server.ask("revert") == [scratch]
    server.ask("close")
    server.quit()


def test_tarball_is_imported_once(
    start: Start, incus: Incus, bookworm_tarball: Path
) -> None:
    counts = []
    for _ in range(2):
        server = start(str(bookworm_tarball))
        server.ask("open")
        server.ask("close")
        server.quit()
        counts.append(len(incus.images()))
    assert counts[0] == counts[1]
    with bookworm_tarball.open("rb") as source:
        Store(incus).remove(content_alias(source))


def test_tarballs_image_that_is_gone_is_imported_again(
    start: Start, incus: Incus, bookworm_tarball: Path
) -> None:
    server = start(str(bookworm_tarball))
    server.ask("open")
    server.ask("close")
    (gone,) = _evicted_once_unused(incus)
    assert gone.aliases[0].startswith("tarball/")
    server.ask("open")
    server.ask("close")
    server.quit()
    _evicted_once_unused(incus)


@pytest.mark.usefixtures("nothing_left")
def test_tarballs_image_that_goes_before_it_is_launched(
    incus: Incus, bookworm_tarball: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add = Store.add
    gone: list[Image] = []

    def add_and_lose_once(*arguments: Any, **options: Any) -> object:
        added = add(*arguments, **options)
        if not gone:
            gone.extend(_evicted_once_unused(incus))
        return added

    monkeypatch.setattr(Store, "add", add_and_lose_once)
    testbed = Testbed(incus, str(bookworm_tarball))
    testbed.hook_open()
    testbed.remove()
    assert gone
    _evicted_once_unused(incus)


def _evicted_once_unused(incus: Incus) -> list[Image]:
    deadline = time.monotonic() + 60
    while not (gone := eviction.evict(incus, keep=0)):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return gone


@pytest.mark.parametrize(
    ("content", "complaint"),
    [(b"", "empty"), (b"no tarball\n" * 1000, "not an archive")],
    ids=["empty", "text"],
)
def test_file_that_is_no_tarball(
    start: Start, tmp_path: Path, content: bytes, complaint: str
) -> None:
    (tmp_path / "file.tar").write_bytes(content)
    said = start(f"{tmp_path}/file.tar").bomb("open")
    assert complaint in said


def test_normal_user_is_suggested_once(
    start: Start, incus: Incus, bookworm_tarball: Path, tmp_path: Path
) -> None:
    tarball = _unpacked(bookworm_tarball, tmp_path / "with-users.tar")
    users = "root:x:0:0::/root:/bin/sh\nb:x:1001:0::/:\na:x:1000:0::/:\n"
    with tarfile.open(tarball, "a") as archive:
        _add(archive, "./etc/passwd", users)
    server = start(str(tarball))
    for _ in range(2):
        server.ask("open")
        assert server.ask("capabilities").count("suggested-normal-user=a") == 1
        server.ask("close")
    server.quit()
    with tarball.open("rb") as source:
        Store(incus).remove(content_alias(source))


@pytest.fixture(scope="module")
def published(incus: Incus, bookworm: str) -> Iterator[str]:
    """Return the alias of an image made of an instance, without bash."""
    alias = "test/published"
    with Instance.launch(incus, bookworm, purpose="test") as instance:
        instance.wait_ready()
        instance.guest.exec(["rm", "/bin/bash"])
        incus.run(
            *("publish", instance.name, "--force", f"--alias={alias}"),
            "--compression=none",
            timeout=300,
        )
    yield alias
    incus.delete_image(alias)


def test_published_image_without_bash(start: Start, published: str) -> None:
    _use(start, published, _PROFILE)


def test_profile_that_is_missing(start: Start, published: str) -> None:
    said = start(published).bomb("open")
    assert "--profile=debusine" in said


def test_plain_image(
    start: Start,
    incus: Incus,
    system_tarball: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """What Incus itself would launch, with nothing of ours in it."""
    tarball = system_tarball("bookworm", "systemd-resolved")
    with _plain(incus, tarball, tmp_path) as alias:
        _use(start, alias, _PROFILE)


def test_plain_image_without_a_name_server(
    start: Start, incus: Incus, bookworm_tarball: Path, tmp_path: Path
) -> None:
    """It has a route, and nothing that would ask for more."""
    with _plain(incus, bookworm_tarball, tmp_path) as alias:
        server = start(alias, _PROFILE)
        server.ask("open")
        assert server.execute("test", "-e", "/etc/resolv.conf").returncode == 1
        server.ask("close")
        said = server.quit().said
    assert "can't resolve names" in said
    assert "systemd-resolved" in said


@contextlib.contextmanager
def _plain(incus: Incus, tarball: Path, folder: Path) -> Iterator[str]:
    """Have a system as an image of Incus' own kind, with networkd enabled."""
    rootfs = _unpacked(tarball, folder / "rootfs.tar")
    with tarfile.open(rootfs, "a") as archive:
        link = tarfile.TarInfo(f"./{_NETWORKD}")
        link.type = tarfile.SYMTYPE
        link.linkname = "/lib/systemd/system/systemd-networkd.service"
        archive.addfile(link)
    architecture = incus.server()["environment"]["architectures"][0]
    metadata = folder / "metadata.tar"
    with tarfile.open(metadata, "w") as archive:
        document = {
            "architecture": architecture,
            "creation_date": int(time.time()),
        }
        _add(archive, "metadata.yaml", json.dumps(document))
    fingerprint = incus.import_image(str(metadata), str(rootfs))
    try:
        incus.create_alias("test/plain", fingerprint)
        yield "test/plain"
    finally:
        incus.delete_image(fingerprint)


def test_a_file_of_an_alias_s_name_does_not_stand_for_it(
    start: Start, bookworm: str, tmp_path: Path
) -> None:
    """Somebody may have put it into the directory that it starts in."""
    file = tmp_path / bookworm
    file.parent.mkdir()
    file.write_bytes(b"not an image")
    server = start(bookworm, cwd=tmp_path)
    server.ask("open")
    server.ask("close")
    server.quit()
    said = start(f"./{bookworm}", cwd=tmp_path).bomb("open")
    assert "not an archive" in said
