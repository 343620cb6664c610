# SPDX-License-Identifier: GPL-3.0-or-later
"""Debusine's images in a real Incus, from a server that plays Debusine."""

import io
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path

import pytest

pytest.importorskip("debusine.client")

from debusine.client.debusine import Debusine
from debusine.tasks.executors.base import (
    ExecutorImageCategory,
    ImageImportError,
)

from debusine_incus import download, images
from debusine_incus import worker as worker_module
from debusine_incus.images import KEEP, MAX_BYTES, ImageCache
from debusine_incus.system_image import SystemImage
from incus_testbed import errors
from incus_testbed.cleanup import garbage
from incus_testbed.image import profiles, properties
from incus_testbed.image.labels import Labels
from incus_testbed.image.store import Store
from incus_testbed.incus.client import Incus
from incus_testbed.incus.records import Image
from incus_testbed.ownership import claim, lease
from tests.support import debusine_server, small_disks, tiny_system
from tests.support.debusine_server import (
    TOKEN,
    DebusineServer,
    cut_after,
    damaged_at,
    held_after,
)

ID = 4712
ALIAS = f"artifact/{ID}"
_LIMIT = 300
_FILLING = 3 << 20
#: Seconds for what takes a fraction of one, however busy the machine.
_SOON = 20

#: What a worker does: several at once, each in a process of its own.
_WORKER = """
import logging
import sys
from debusine.client.debusine import Debusine
from debusine.tasks.executors.base import ExecutorImageCategory
from debusine_incus.images import ImageCache
url, token, number = sys.argv[1:]
logging.basicConfig()
api = Debusine(url, token, logger=logging.getLogger("debusine"))
cache = ImageCache(api, ExecutorImageCategory.TARBALL)
print(cache.download(cache.artifact(int(number))), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server() -> Iterator[DebusineServer]:
    with debusine_server.running() as it:
        yield it


@pytest.fixture(autouse=True)
def _clean(incus: Incus) -> Iterator[None]:
    yield
    garbage.relinquish(incus)
    for image in incus.images():
        if any(name.startswith("artifact/") for name in image.aliases):
            incus.delete_image(image.fingerprint)
    assert not any(image.claims for image in incus.images())


@pytest.fixture(autouse=True)
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "_PAUSES", (0.0, 0.0, 0.0))
    monkeypatch.setattr(images, "PATIENCE", 2.0)


@pytest.fixture
def cache(server: DebusineServer, incus: Incus) -> ImageCache:
    del incus
    return cache_of(server)


def cache_of(server: DebusineServer) -> ImageCache:
    api = Debusine(server.api_url, TOKEN, logger=logging.getLogger("debusine"))
    return ImageCache(api, ExecutorImageCategory.TARBALL)


def test_system_image_becomes_a_virtual_machines(
    server: DebusineServer, incus: Incus, tmp_path: Path
) -> None:
    disk = tmp_path / "system.img"
    small_disks.make(disk, small_disks.system())
    packed = tmp_path / "image.tar.xz"
    # as SimpleSystemImageBuild does, with its folder's path
    subprocess.run(["tar", "-caPf", packed, disk], check=True)
    server.add_artifact(
        ID,
        packed,
        category="debian:system-image",
        image_format="raw",
        boot_mechanism="efi",
    )
    api = Debusine(server.api_url, TOKEN, logger=logging.getLogger("debusine"))
    images = ImageCache(api, ExecutorImageCategory.IMAGE)
    assert images.download(images.artifact(ID)) == f"artifact/{ID}"
    image = Store(incus).find(f"artifact/{ID}")
    assert image
    assert image.kind == "virtual-machine"
    # the server's label wins
    assert image.properties["release"] == "bookworm"


def test_bios_image_is_refused_before_it_is_fetched(
    server: DebusineServer, incus: Incus
) -> None:
    del incus
    server.add_artifact(
        ID, b"", category="debian:system-image", boot_mechanism="bios"
    )
    api = Debusine(server.api_url, TOKEN, logger=logging.getLogger("debusine"))
    images = ImageCache(api, None)
    with pytest.raises(ImageImportError, match="boots by bios"):
        images.download(images.artifact(ID))


def worker(
    server: DebusineServer, number: int = ID, **environment: str
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", _WORKER, server.api_url, TOKEN, str(number)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            **environment,
        },
    )


def tarball(name: str = "", size: int = _FILLING) -> bytes:
    return tiny_system.tarball(name, size)


def present(incus: Incus, alias: str = ALIAS) -> Image:
    image = Store(incus).find(alias)
    assert image
    return image


def wait_for(file: debusine_server.File) -> None:
    deadline = time.monotonic() + _LIMIT
    while not file.requests:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_image_is_downloaded_once_and_labelled(
    cache: ImageCache,
    server: DebusineServer,
    incus: Incus,
    bookworm_tarball: Path,
) -> None:
    file = server.add_artifact(ID, bookworm_tarball, codename="mine")
    assert cache.download(cache.artifact(ID)) == ALIAS
    image = present(incus)
    assert properties.is_evictable(image)
    assert image.properties["artifact_id"] == str(ID)
    assert image.properties["release"] == "mine"
    assert "debian mine amd64" in image.properties["description"]
    assert cache.download(cache.artifact(ID)) == ALIAS
    assert len(file.requests) == 1
    ImageCache.clean_up(ID)
    assert present(incus).fingerprint == image.fingerprint
    garbage.relinquish(incus)
    ImageCache.clean_up(ID)
    assert Store(incus).find(ALIAS) is None
    ImageCache.clean_up(ID)


def test_other_category_is_refused(
    cache: ImageCache, server: DebusineServer
) -> None:
    server.add_artifact(ID, b"", category="debian:system-image")
    with pytest.raises(ValueError, match="debian:system-image"):
        cache.artifact(ID)


# -- an abort


def test_an_aborted_work_request_ends_its_import(
    cache: ImageCache, server: DebusineServer, incus: Incus
) -> None:
    """The server has gone silent: nothing else would end the wait soon."""
    file = server.add_artifact(ID, tarball())
    event = threading.Event()
    file.faults.append(held_after(1 << 20, event))

    class Task:
        aborted = False

        def execute_logging_exceptions(self) -> None:
            with pytest.raises(ImageImportError, match="was aborted"):
                cache.download(cache.artifact(ID))

    worker_module.clean_up_after(Task)
    task = Task()
    thread = threading.Thread(target=task.execute_logging_exceptions)
    thread.start()
    wait_for(file)
    assert thread.is_alive()
    task.aborted = True
    thread.join(_SOON)
    assert not thread.is_alive()
    event.set()
    assert Store(incus).find(ALIAS) is None
    assert all(image.aliases for image in incus.images())


# -- the network


@pytest.mark.parametrize("ranges", [True, False])
def test_interrupted_download_goes_on_where_it_was(
    cache: ImageCache, server: DebusineServer, incus: Incus, ranges: bool
) -> None:
    file = server.add_artifact(ID, tarball())
    server.ranges = ranges
    file.faults += [
        HTTPStatus.SERVICE_UNAVAILABLE,
        cut_after(1 << 20),
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.TOO_MANY_REQUESTS,
        cut_after((1 << 20) + 1000),
    ]
    cache.download(cache.artifact(ID))
    assert present(incus)
    begin = "bytes=1048576-"
    assert file.requests[:5] == ["", "", begin, begin, begin]
    assert len(file.requests) == 6


def test_server_that_is_gone_is_given_up(
    cache: ImageCache, server: DebusineServer, incus: Incus
) -> None:
    file = server.add_artifact(ID, tarball())
    file.faults += [cut_after(0)] * 9
    with pytest.raises(ImageImportError, match="can't be downloaded"):
        cache.download(cache.artifact(ID))
    assert len(file.requests) == 4
    assert Store(incus).find(ALIAS) is None
    assert all(image.aliases for image in incus.images())


def test_token_is_for_debusine_alone(
    cache: ImageCache, server: DebusineServer, incus: Incus
) -> None:
    file = server.add_artifact(ID, tarball())
    with debusine_server.running() as storage:
        storage.add_artifact(ID, file.content).public = True
        file.elsewhere = f"{storage.url}/file/{ID}"
        cache.download(cache.artifact(ID))
        assert storage.tokens == [None]
    assert set(server.tokens) == {TOKEN}
    assert present(incus)


@pytest.mark.parametrize("status", [HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND])
def test_refused_download_is_not_tried_again(
    cache: ImageCache, server: DebusineServer, status: HTTPStatus
) -> None:
    file = server.add_artifact(ID, tarball())
    file.faults += [status]
    with pytest.raises(ImageImportError, match=f"refuses.* {status.value}"):
        cache.download(cache.artifact(ID))
    assert len(file.requests) == 1


def test_silent_server_is_not_waited_for_forever(
    cache: ImageCache, server: DebusineServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "_LIMITS", (0.2, 0.2))
    file = server.add_artifact(ID, tarball())
    event = threading.Event()
    file.faults += [held_after(0, event)] * 9
    try:
        with pytest.raises(ImageImportError, match="timed out"):
            cache.download(cache.artifact(ID))
    finally:
        event.set()


def test_damaged_file_is_refused(
    cache: ImageCache, server: DebusineServer, incus: Incus
) -> None:
    file = server.add_artifact(ID, tarball())
    file.faults += [damaged_at(2 << 20)]  # in the filling: still a tarball
    with pytest.raises(ImageImportError, match="Checksum mismatch"):
        cache.download(cache.artifact(ID))
    assert Store(incus).find(ALIAS) is None
    assert all(image.aliases for image in incus.images())
    cache.download(cache.artifact(ID))
    assert present(incus)


def test_truncated_file_is_refused(
    cache: ImageCache, server: DebusineServer, incus: Incus
) -> None:
    file = server.add_artifact(ID, tarball())
    file.content = file.content[: 1 << 20]
    with pytest.raises(ImageImportError, match="stopped at 1048576 of"):
        cache.download(cache.artifact(ID))
    assert Store(incus).find(ALIAS) is None


@pytest.mark.parametrize("content", [b"", b"<html>" * 1000])
def test_what_is_no_image_is_refused(
    cache: ImageCache, server: DebusineServer, content: bytes
) -> None:
    server.add_artifact(ID, content)
    with pytest.raises(ImageImportError, match=r"empty|not a"):
        cache.download(cache.artifact(ID))


def test_file_that_the_artifact_lacks(
    cache: ImageCache, server: DebusineServer
) -> None:
    server.add_artifact(ID, b"", filename="missing.tar")
    with pytest.raises(ImageImportError, match=r"no file missing.tar"):
        cache.download(cache.artifact(ID))


def test_machine_that_is_not_set_up_is_said_at_once(
    cache: ImageCache,
    server: DebusineServer,
    incus: Incus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = server.add_artifact(ID, tarball())
    monkeypatch.setattr(profiles, "chosen", lambda _: "not-there")
    with pytest.raises(ImageImportError, match="incus-testbed setup"):
        cache.download(cache.artifact(ID))
    assert len(file.requests) == 1
    assert all(image.aliases for image in incus.images())


# -- several processes


@pytest.mark.parametrize("users", ["one user", "several users"])
def test_processes_that_want_the_same_get_it_imported_once(
    server: DebusineServer, incus: Incus, tmp_path: Path, users: str
) -> None:
    file = server.add_artifact(ID, tarball(size=20 << 20))
    children = []
    for number in range(8):
        # Locks are kept by user: this is what makes them different ones.
        folder = tmp_path / (str(number) if users == "several users" else "")
        children.append(worker(server, XDG_CACHE_HOME=str(folder)))
    try:
        for child in children:
            assert child.stdout
            assert child.stdout.readline() == f"{ALIAS}\n"
        assert len(present(incus).claims) == 8
    finally:
        for child in children:
            child.communicate(timeout=_LIMIT)
    if users == "one user":
        assert len(file.requests) == 1
    assert [image for image in incus.images() if not image.aliases] == []
    garbage.collect(incus)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_download_leaves_nothing(
    server: DebusineServer, incus: Incus, tmp_path: Path, number: int
) -> None:
    file = server.add_artifact(ID, tarball())
    event = threading.Event()
    file.faults += [held_after(1 << 20, event)]
    child = worker(server, TMPDIR=str(tmp_path), XDG_CACHE_HOME=str(tmp_path))
    try:
        wait_for(file)
        assert [path.name for path in tmp_path.iterdir()] == ["incus-testbed"]
        child.send_signal(number)
        child.communicate(timeout=_LIMIT)
    finally:
        event.set()
    garbage.collect(incus)
    assert all(image.aliases for image in incus.images())
    assert Store(incus).find(ALIAS) is None
    cache = cache_of(server)
    cache.download(cache.artifact(ID))
    assert present(incus)


@pytest.mark.parametrize("delay", [0.6, 0.9, 1.2, 1.5, 1.8])
def test_cache_is_sound_after_a_kill_at_any_time(
    server: DebusineServer, incus: Incus, delay: float
) -> None:
    server.add_artifact(ID, tarball(size=30 << 20))
    child = worker(server)
    time.sleep(delay)
    child.kill()
    child.communicate()
    garbage.collect(incus)
    cache = cache_of(server)
    artifact = cache.artifact(ID)
    cache.download(artifact)
    image = present(incus)
    assert properties.source(image) == SystemImage(artifact).sha256
    assert image.profiles == (profiles.USUAL,)
    # Its last request may be carried out yet.
    deadline = time.monotonic() + claim.GRACE
    while not all(image.aliases for image in incus.images()):
        assert time.monotonic() < deadline
        garbage.collect(incus)


def test_killed_workers_image_is_free_again(
    server: DebusineServer, incus: Incus
) -> None:
    server.add_artifact(ID, tarball())
    child = worker(server)
    assert child.stdout
    assert child.stdout.readline() == f"{ALIAS}\n"
    ImageCache.clean_up(ID)
    assert present(incus)
    child.kill()
    child.communicate()
    ImageCache.clean_up(ID)
    assert Store(incus).find(ALIAS) is None


# -- an alias that is taken


def test_servers_do_not_get_each_others_images(
    cache: ImageCache, server: DebusineServer, incus: Incus
) -> None:
    server.add_artifact(ID, tarball("ours"))
    with debusine_server.running() as other:
        other.add_artifact(ID, tarball("theirs"))
        theirs = cache_of(other)
        theirs.download(theirs.artifact(ID))
        sources = {properties.source(present(incus))}
        with pytest.raises(ImageImportError, match="project switch"):
            cache.download(cache.artifact(ID))
        sources.add(properties.source(present(incus)))
        assert len(sources) == 1
        threading.Timer(1, garbage.relinquish, [incus]).start()
        cache.download(cache.artifact(ID))
        sources.add(properties.source(present(incus)))
        assert len(sources) == 2


def test_two_workers_of_two_servers_take_turns(
    server: DebusineServer, incus: Incus
) -> None:
    server.add_artifact(ID, tarball("ours"))
    with debusine_server.running() as other:
        other.add_artifact(ID, tarball("theirs"))
        children = [worker(each) for each in (server, other)]
        for child in children:
            # It goes on when its input ends, and ends: so do its leases.
            threading.Timer(3, child.communicate).start()
        for child in children:
            assert child.wait(_LIMIT) == 0
    assert [image for image in incus.images() if not image.aliases] == []
    time.sleep(0.1)
    garbage.collect(incus)


def test_image_of_debusines_own_executor_is_replaced(
    cache: ImageCache, server: DebusineServer, incus: Incus
) -> None:
    server.add_artifact(ID, tarball())
    Store(incus).add(io.BytesIO(tarball("upstream")), ALIAS)
    old = present(incus).fingerprint
    incus.run("image", "set-property", old, "debusine_artifact_id", str(ID))
    incus.unset_image_property(old, "incus-testbed.created")
    cache.download(cache.artifact(ID))
    assert present(incus).fingerprint != old


def test_users_own_image_is_not_touched(
    cache: ImageCache, server: DebusineServer, incus: Incus
) -> None:
    server.add_artifact(ID, tarball())
    Store(incus).add(io.BytesIO(tarball("the user's")), ALIAS)
    old = present(incus).fingerprint
    with pytest.raises(ImageImportError, match=f"{ALIAS} is taken"):
        cache.download(cache.artifact(ID))
    ImageCache.clean_up(ID)
    assert present(incus).fingerprint == old


def test_image_imported_by_hand_is_used_and_stays(
    cache: ImageCache,
    server: DebusineServer,
    incus: Incus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(KEEP, "0")
    file = server.add_artifact(ID, tarball())
    Store(incus).add(io.BytesIO(tarball()), ALIAS)
    cache.download(cache.artifact(ID))
    assert not file.requests
    garbage.relinquish(incus)
    server.add_artifact(ID + 1, tarball("other"))
    cache.download(cache.artifact(ID + 1))
    assert not properties.is_evictable(present(incus))


# -- room


@pytest.mark.parametrize(
    ("name", "value"), [(KEEP, "2"), (MAX_BYTES, str(1 << 20))]
)
def test_cache_is_bounded_and_spares_what_is_in_use(
    cache: ImageCache,
    server: DebusineServer,
    incus: Incus,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    value: str,
) -> None:
    for number in range(4):
        content = tarball(str(number), 100)
        if name == MAX_BYTES:
            content = incompressible(number)
        server.add_artifact(ID + number, content)
    monkeypatch.setenv(name, value)
    cache.download(cache.artifact(ID))
    held = lease.take(incus, ALIAS)
    for number in (1, 2, 3):
        cache.download(cache.artifact(ID + number))
        if number < 3:
            for claimed in present(incus, f"artifact/{ID + number}").claims:
                incus.delete_alias(claimed)
    kept = {alias for image in incus.images() for alias in image.aliases}
    kept = {alias for alias in kept if alias.startswith("artifact/")}
    assert kept == {ALIAS, f"artifact/{ID + 3}"}
    held.release()


def incompressible(number: int) -> bytes:
    """Make a system of which the server's copy is some 600 kB."""
    name = "".join(chr(33 + byte % 90) for byte in os.urandom(700_000))
    return tarball(f"{number}{name}", 0)


@pytest.mark.parametrize("name", [KEEP, MAX_BYTES])
def test_odd_setting_is_said(
    cache: ImageCache,
    server: DebusineServer,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    file = server.add_artifact(ID, tarball())
    monkeypatch.setenv(name, "ten")
    with pytest.raises(ImageImportError, match=f"{name} is 'ten'"):
        cache.download(cache.artifact(ID))
    assert not file.requests


@pytest.mark.parametrize("spare", [True, False])
def test_full_disk_makes_unused_images_go(
    cache: ImageCache,
    server: DebusineServer,
    incus: Incus,
    monkeypatch: pytest.MonkeyPatch,
    spare: bool,
) -> None:
    Store(incus).add(
        io.BytesIO(tarball("old")),
        "artifact/1",
        label=Labels(evictable=spare),
    )
    server.add_artifact(ID, tarball())
    import_image = Incus.import_image

    def full(client: Incus, metadata: str, rootfs: str) -> str:
        if Store(incus).find("artifact/1"):
            raise errors.NoSpace("The pool is full")
        return import_image(client, metadata, rootfs)

    monkeypatch.setattr(Incus, "import_image", full)
    if spare:
        cache.download(cache.artifact(ID))
        assert present(incus)
    else:
        with pytest.raises(ImageImportError, match="The pool is full"):
            cache.download(cache.artifact(ID))
        assert present(incus, "artifact/1")


def test_what_fits_nowhere_costs_no_image(
    cache: ImageCache,
    server: DebusineServer,
    incus: Incus,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    Store(incus).add(
        io.BytesIO(tarball("old")),
        "artifact/1",
        label=Labels(evictable=True),
    )
    server.add_artifact(ID, tarball())

    def full(_client: Incus, _metadata: str, _rootfs: str) -> str:
        error = errors.NoSpace("The pool is full")
        error.lacking = 1 << 40
        raise error

    monkeypatch.setattr(Incus, "import_image", full)
    with pytest.raises(ImageImportError, match="The pool is full"):
        cache.download(cache.artifact(ID))
    assert present(incus, "artifact/1")
