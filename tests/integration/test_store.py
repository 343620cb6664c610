# SPDX-License-Identifier: GPL-3.0-or-later
"""Images on a real Incus: whole or not there, once, and removable."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from incus_testbed.image.store import Store
from incus_testbed.incus import records
from incus_testbed.incus.client import Incus
from incus_testbed.instance.instance import Instance
from tests.support import tiny_system

from .conftest import Cli

ALIAS = "artifact/4711"


@pytest.fixture(autouse=True)
def _clean(incus: Incus) -> Iterator[None]:
    yield
    for image in incus.images():
        if ALIAS in image.aliases or not image.aliases:
            incus.delete_image(image.fingerprint)


@pytest.fixture
def tarball(bookworm_tarball: Path) -> str:
    return str(bookworm_tarball)


def test_image_says_what_it_is(cli: Cli, incus: Incus, tarball: str) -> None:
    options = ("--alias", ALIAS, "--description", "mine", "--vendor", "kali")
    assert "is imported" in cli.output("import", tarball, *options)
    images = json.loads(cli.output("images", "--format=json"))
    (image,) = (image for image in images if ALIAS in image["aliases"])
    assert image["aliases"] == [ALIAS]
    assert image["architecture"] == "x86_64"
    assert image["profiles"] == ["debusine"]
    assert image["unpacked_size"] > image["size"]
    properties = image["properties"]
    assert properties["artifact_id"] == "4711"
    assert properties["description"] == "mine"
    assert properties["os"] == "kali"
    assert properties["release"] == "bookworm"
    table = cli.output("images")
    assert ALIAS in table
    assert "kali bookworm" in table
    cli.output("remove", ALIAS)
    assert Store(incus).find(ALIAS) is None


def test_an_import_imports_only_what_it_needs(
    incus: Incus, tmp_path: Path
) -> None:
    """Each of these takes as long to import as a small image to upload."""
    look = (
        "import sys; from incus_testbed.cli.main import main;"
        " assert not main(sys.argv[1:]); print(*sys.modules)"
    )
    file = tmp_path / "system.tar"
    file.write_bytes(tiny_system.tarball())
    done = subprocess.run(
        [sys.executable, "-c", look, "import", str(file), f"--alias={ALIAS}"],
        stdout=subprocess.PIPE,
        check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    )
    imported = set(done.stdout.split())
    assert "incus_testbed.image.importing" in imported
    assert not imported & {"rich", "sh", "ssl"}
    assert Store(incus).find(ALIAS)


def test_standard_input(cli: Cli, incus: Incus, bookworm_tarball: Path) -> None:
    with bookworm_tarball.open("rb") as source:
        child = cli.start("import", "-", "--alias", ALIAS, stdin=source)
        assert child.wait() == 0
    assert Store(incus).find(ALIAS)


def test_pipe(cli: Cli, incus: Incus, bookworm_tarball: Path) -> None:
    with subprocess.Popen(
        ["zstd", "-dc", bookworm_tarball], stdout=subprocess.PIPE
    ) as source:
        child = cli.start("import", "-", "--alias", ALIAS, stdin=source.stdout)
        assert child.wait() == 0
    assert Store(incus).find(ALIAS)


def test_second_import_of_the_same_file_reuses(
    cli: Cli, incus: Incus, tarball: str
) -> None:
    cli.output("import", tarball, "--alias", ALIAS)
    first = Store(incus).find(ALIAS)
    said = cli.output("import", tarball, "--alias", ALIAS)
    assert "already" in said
    second = Store(incus).find(ALIAS)
    assert first
    assert second
    assert first.fingerprint == second.fingerprint


def test_alias_of_another_file_is_refused(
    cli: Cli, incus: Incus, tarball: str, tmp_path: Path
) -> None:
    cli.output("import", tarball, "--alias", ALIAS)
    other = tmp_path / "other"
    other.write_bytes(b"x")
    done = cli.run("import", str(other), "--alias", ALIAS)
    assert done.returncode == 1
    assert f"{ALIAS} is taken" in done.stderr
    assert f"incus-testbed remove {ALIAS}" in done.stderr
    assert Store(incus).find(ALIAS)


def test_foreign_image_is_refused_and_kept(
    cli: Cli, incus: Incus, bookworm: str, tarball: str
) -> None:
    with Instance.launch(
        incus, bookworm, purpose="test", ephemeral=False
    ) as it:
        it.wait_ready()
        it.stop()
        words = (it.name, f"--alias={ALIAS}", "--compression=none")
        incus.run("publish", *words, timeout=300)
    try:
        for command in (("import", tarball, "--alias"), ("remove",)):
            done = cli.run(*command, ALIAS)
            assert done.returncode == 1
            assert f"incus image delete {ALIAS}" in done.stderr
            assert Store(incus).find(ALIAS)
    finally:
        incus.delete_alias(ALIAS)
        # Without a name it looks like one that was never finished.
        assert cli.output("gc") == ""


def test_removing_one_of_two_names_keeps_the_image(
    cli: Cli, incus: Incus, bookworm: str
) -> None:
    image = Store(incus).find(bookworm)
    assert image
    incus.create_alias(ALIAS, image.fingerprint)
    cli.output("remove", ALIAS)
    assert Store(incus).find(ALIAS) is None
    assert Store(incus).find(bookworm)


def test_eight_processes_import_once(
    cli: Cli, incus: Incus, tarball: str
) -> None:
    children = [
        cli.start(
            "import",
            tarball,
            "--alias",
            ALIAS,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(8)
    ]
    said = [child.communicate(timeout=300) for child in children]
    assert [child.returncode for child in children] == [0] * 8, said
    imported = [output for output, _ in said if "is imported" in output]
    assert len(imported) == 1
    images = [image for image in incus.images() if ALIAS in image.aliases]
    assert len(images) == 1
    assert not [image for image in incus.images() if not image.aliases]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
@pytest.mark.parametrize("delay", [0.3, 0.8, 1.2, 1.6, 2.0])
def test_interrupted_import_leaves_nothing(
    cli: Cli,
    incus: Incus,
    tarball: str,
    tmp_path: Path,
    number: int,
    delay: float,
) -> None:
    environment = {**cli.environment, "TMPDIR": str(tmp_path)}
    child = Cli(environment).start("import", tarball, "--alias", ALIAS)
    time.sleep(delay)
    child.send_signal(number)
    status = child.wait(60)
    assert not list(tmp_path.iterdir())
    image = Store(incus).find(ALIAS)
    if status == 0:
        assert image
    if image:
        assert image.profiles == ("debusine",)
    # The next one finds a clean table, and leaves one.
    cli.output("import", tarball, "--alias", ALIAS)
    # What a killed process had asked Incus for may come to be after it.
    deadline = time.monotonic() + 30
    while cli.output("gc") or any(
        not image.aliases for image in incus.images()
    ):
        assert time.monotonic() < deadline


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"hello" * 1000, "not"),
        (b"QFI\xfb" + bytes(1000), "qcow2 image"),
    ],
)
def test_what_is_no_tarball_is_refused_clearly(
    cli: Cli, incus: Incus, tmp_path: Path, content: bytes, message: str
) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    done = cli.run("import", str(file), "--alias", ALIAS)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert Store(incus).find(ALIAS) is None


def test_images_are_those_of_the_incus_command(
    incus: Incus, bookworm: str
) -> None:
    said = json.loads(incus.run("image", "list", "--format=json"))
    there = [records.image(record) for record in said]
    assert bookworm in [alias for image in there for alias in image.aliases]
    assert sorted(map(repr, incus.images())) == sorted(map(repr, there))


def test_missing_file_and_odd_alias(cli: Cli, tarball: str) -> None:
    done = cli.run("import", "/no/such/file", "--alias", ALIAS)
    assert done.returncode == 1
    assert "/no/such/file" in done.stderr
    done = cli.run("import", tarball, "--alias", "a b")
    assert done.returncode == 1
    assert "artifact/42" in done.stderr


def test_full_disk(
    cli: Cli, incus: Incus, tarball: str, tmp_path: Path
) -> None:
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8M", "tmpfs", tmp_path], check=True
    )
    try:
        environment = {**cli.environment, "TMPDIR": str(tmp_path)}
        done = Cli(environment).run("import", tarball, "--alias", ALIAS)
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert done.returncode == 1
    assert "No space left" in done.stderr
    assert "TMPDIR" in done.stderr
    assert Store(incus).find(ALIAS) is None


def test_wrong_architecture_label(cli: Cli, incus: Incus, tarball: str) -> None:
    done = cli.run(
        "import", tarball, "--alias", ALIAS, "--architecture", "s390x"
    )
    assert done.returncode == 1
    assert "amd64, not s390x" in done.stderr
    assert Store(incus).find(ALIAS) is None
