# SPDX-License-Identifier: GPL-3.0-or-later
"""The world fails: what a user reads then, and that nothing is left.

docs/howto/troubleshooting.md explains each of these messages.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from incus_testbed import errors
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance
from tests.faults.private_incus import PrivateIncus
from tests.support import sandbox

_PAGE = Path(__file__).resolve().parents[2] / "docs/howto/troubleshooting.md"
#: Seconds for a command: it only keeps a hanging one from hanging the run.
_LIMIT = 300


@pytest.fixture(autouse=True)
def _nothing_is_left(private_incus: PrivateIncus) -> Iterator[None]:
    yield
    private_incus.clear()
    private_incus.workspace.settle()
    assert not list(private_incus.workspace.broken())


def _run(
    private_incus: PrivateIncus, *words: str, before: Sequence[str] = ()
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [*before, sys.executable, "-m", "incus_testbed", *words],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=private_incus.workspace.environment(),
        timeout=_LIMIT,
        check=False,
    )


def _fails(
    private_incus: PrivateIncus,
    brief: str,
    *words: str,
    before: Sequence[str] = (),
) -> str:
    """Check that a command fails with a message that is explained."""
    done = _run(private_incus, *words, before=before)
    assert done.returncode in {1, 125}, done
    assert brief in done.stderr.splitlines()[0], done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert brief in _PAGE.read_text()
    return done.stderr


def _launches(private_incus: PrivateIncus) -> None:
    done = _run(private_incus, "run", private_incus.image, "--", "true")
    assert done.returncode == 0, done.stderr


@contextmanager
def _pool(size: str) -> Iterator[str]:
    """Have another pool; gives the argument that launches there."""
    name = f"other-{os.getpid()}"
    Incus().run("storage", "create", name, "btrfs", f"size={size}")
    try:
        yield f"--launch-argument=--storage={name}"
    finally:
        Incus().run("storage", "delete", name)


def test_full_pool(private_incus: PrivateIncus) -> None:
    with _pool("128MiB") as there:
        _fails(
            private_incus,
            "There is no space left for this in Incus",
            *("run", there, private_incus.image, "--", "true"),
        )


@contextmanager
def _mounted(
    private_incus: PrivateIncus, options: str, where: str
) -> Iterator[None]:
    """Have the daemon, alone, see a file system of memory there."""
    enter = ("nsenter", f"--target={private_incus.daemon.incusd()}", "--mount")
    subprocess.run(
        [*enter, "mount", "-t", "tmpfs", "-o", options, "tmpfs", where],
        check=True,
    )
    try:
        yield
    finally:
        subprocess.run([*enter, "umount", where], check=True)


def test_full_image_store(private_incus: PrivateIncus) -> None:
    store = f"{private_incus.daemon.environment['INCUS_DIR']}/images"
    with _mounted(private_incus, "size=1m", store):
        _fails(
            private_incus,
            "There is no space left for this in Incus",
            *private_incus.importing,
        )


@pytest.mark.parametrize(
    ("options", "brief"),
    [
        ("size=1m", "No space left for the converted image"),
        ("ro", "No temporary file can be made in"),
    ],
)
def test_temporary_folder(
    private_incus: PrivateIncus, options: str, brief: str
) -> None:
    mount = f'mount -t tmpfs -o {options} tmpfs "$TMPDIR" && exec "$@"'
    _fails(
        private_incus,
        brief,
        *private_incus.importing,
        before=("unshare", "--mount", "sh", "-c", mount, "sh"),
    )


@pytest.mark.parametrize("also_the_network", [False, True])
def test_deleted_profile_is_made_again(
    private_incus: PrivateIncus, also_the_network: bool
) -> None:
    Incus().run("profile", "delete", "debusine")
    if also_the_network:  # Incus refuses while a profile names it
        sandbox.delete("network", private_incus.names.network)
    _fails(
        private_incus,
        "No root device could be found",
        *("run", private_incus.image, "--", "true"),
    )
    done = _run(
        private_incus,
        *("setup", f"--network={private_incus.names.network}"),
        f"--pool={private_incus.names.pool}",
    )
    assert done.returncode == 0, done.stderr
    _launches(private_incus)


def test_damaged_image(private_incus: PrivateIncus) -> None:
    assert _run(private_incus, *private_incus.importing).returncode == 0
    (image,) = (
        image
        for image in Incus().images()
        if private_incus.imported in image.aliases
    )
    store = Path(private_incus.daemon.environment["INCUS_DIR"], "images")
    os.truncate(store / f"{image.fingerprint}.rootfs", 1_000_000)
    _fails(
        private_incus,
        "Incus can't unpack the image: it is damaged",
        *("run", private_incus.imported, "--", "true"),
    )


def test_daemon_killed_while_it_unpacks(private_incus: PrivateIncus) -> None:
    """It takes a part of the image for all of it, once it is there again."""
    assert _run(private_incus, *private_incus.importing).returncode == 0
    run = ("run", private_incus.imported, "--")
    with ThreadPoolExecutor() as pool:
        first = pool.submit(_run, private_incus, *run, "true")
        _wait_for_program(private_incus.daemon.incusd(), "tar")
        private_incus.daemon.kill()
        assert first.result().returncode == 125
    private_incus.workspace.settle()

    done = _run(private_incus, *run, "dpkg", "--verify")

    assert "Incus was ended while it unpacked it; trying again" in done.stderr
    assert (done.returncode, done.stdout) == (0, "")


def _wait_for_program(parent: int, name: str) -> None:
    """Wait until a process has a child of that name."""
    deadline = time.monotonic() + _LIMIT
    while subprocess.run(
        ["pgrep", "--exact", f"--parent={parent}", name],
        stdout=subprocess.DEVNULL,
        check=False,
    ).returncode:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_network_that_is_down(private_incus: PrivateIncus) -> None:
    link = ("ip", "link", "set", private_incus.names.network)
    subprocess.run([*link, "down"], check=True)
    try:
        with (
            pytest.raises(errors.BootFailed, match="'offline'") as caught,
            Instance.launch(
                Incus(), private_incus.image, purpose="test"
            ) as instance,
        ):
            instance.wait_ready(timeout=5)
    finally:
        subprocess.run([*link, "up"], check=True)
    assert "The end of its console" in caught.value.details
    assert "did not become ready" in _PAGE.read_text()


def test_guest_that_never_boots(private_incus: PrivateIncus) -> None:
    with Instance.launch(
        Incus(), private_incus.image, purpose="test"
    ) as instance:
        instance.wait_ready()
        unit = (
            "[Unit]\nBefore=multi-user.target\n"
            "[Service]\nType=oneshot\nExecStart=sleep infinity\n"
            "[Install]\nWantedBy=multi-user.target\n"
        )
        instance.guest.run(
            ["sh", "-c", "cat >/etc/systemd/system/stuck.service"],
            input=unit.encode(),
            check=True,
        )
        instance.guest.run(["systemctl", "enable", "stuck"], check=True)
        old = instance.probe()["boot"]
        instance.reboot()
        with pytest.raises(errors.BootFailed) as caught:
            instance.wait_reboot(old, timeout=10)
    assert "stuck.service" in caught.value.details


def test_daemon_that_is_down(private_incus: PrivateIncus) -> None:
    nowhere = ("env", "INCUS_DIR=/nowhere")
    _fails(private_incus, "No Incus daemon answers", "images", before=nowhere)


def test_a_hundred_thousand_files(
    private_incus: PrivateIncus, tmp_path: Path
) -> None:
    for number in range(100):
        folder = tmp_path / "many" / str(number)
        folder.mkdir(parents=True)
        for name in range(1000):
            (folder / str(name)).touch()
    with Instance.launch(
        Incus(), private_incus.image, purpose="test"
    ) as instance:
        instance.wait_ready()
        start = time.monotonic()
        instance.guest.files.push_tree(str(tmp_path / "many"), "/root")
        assert time.monotonic() - start < _LIMIT
        count = instance.guest.run(
            ["sh", "-c", "find /root/many -type f | wc -l"],
            capture_output=True,
            check=True,
        )
    assert int(count.stdout) == 100_000
