# SPDX-License-Identifier: GPL-3.0-or-later
"""Images of any provenance: tarballs, Incus' own, without bash, with users."""

import io
import json
import subprocess
import tarfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from incus_testbed.client import Incus
from incus_testbed.image import eviction
from incus_testbed.image.store import Store, content_alias
from incus_testbed.instance import Instance
from incus_testbed.records import Image

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


def test_image_without_bash(start: Start, incus: Incus, bookworm: str) -> None:
    with Instance.launch(incus, bookworm, purpose="test") as instance:
        instance.wait_ready()
        instance.exec(["rm", "/bin/bash"])
        _publish(incus, instance.name, "test/bashless")
    try:
        _use(start, "test/bashless", _PROFILE)
    finally:
        incus.delete_image("test/bashless")


def test_published_image(start: Start, incus: Incus, bookworm: str) -> None:
    with Instance.launch(incus, bookworm, purpose="test") as instance:
        instance.wait_ready()
        instance.exec(["touch", "/etc/published"])
        _publish(incus, instance.name, "test/published")
    try:
        _use(start, "test/published", _PROFILE)
    finally:
        incus.delete_image("test/published")


def test_profile_that_is_missing(
    start: Start, incus: Incus, bookworm: str
) -> None:
    with Instance.launch(incus, bookworm, purpose="test") as instance:
        _publish(incus, instance.name, "test/published")
    try:
        said = start("test/published").bomb("open")
    finally:
        incus.delete_image("test/published")
    assert "--profile=debusine" in said


def _publish(incus: Incus, name: str, alias: str) -> None:
    incus.run("publish", name, "--force", f"--alias={alias}", timeout=300)


def test_plain_image(
    start: Start,
    incus: Incus,
    system_tarball: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """What Incus itself would launch, with nothing of ours in it."""
    rootfs = _unpacked(
        system_tarball("bookworm", "systemd-resolved"), tmp_path / "rootfs.tar"
    )
    with tarfile.open(rootfs, "a") as archive:
        link = tarfile.TarInfo(f"./{_NETWORKD}")
        link.type = tarfile.SYMTYPE
        link.linkname = "/lib/systemd/system/systemd-networkd.service"
        archive.addfile(link)
    architecture = incus.server()["environment"]["architectures"][0]
    metadata = tmp_path / "metadata.tar"
    with tarfile.open(metadata, "w") as archive:
        document = {
            "architecture": architecture,
            "creation_date": int(time.time()),
        }
        _add(archive, "metadata.yaml", json.dumps(document))
    fingerprint = incus.import_image(str(metadata), str(rootfs))
    try:
        incus.create_alias("test/plain", fingerprint)
        _use(start, "test/plain", _PROFILE)
    finally:
        incus.delete_image(fingerprint)


def test_image_without_name_server(
    start: Start, incus: Incus, bookworm: str
) -> None:
    """What does not need names is tested there all the same."""
    with Instance.launch(incus, bookworm, purpose="test") as instance:
        instance.wait_ready()
        instance.run(
            [
                *("rm", "/etc/resolv.conf"),
                "/etc/systemd/system/incus-testbed-resolv.service",
            ],
            check=True,
        )
        _publish(incus, instance.name, "test/nameless")
    try:
        server = start("test/nameless", _PROFILE, stderr=subprocess.PIPE)
        server.ask("open")
        server.ask("close")
        assert "no name server" in server.quit().said
    finally:
        incus.delete_image("test/nameless")
