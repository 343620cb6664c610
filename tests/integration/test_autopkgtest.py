# SPDX-License-Identifier: GPL-3.0-or-later
"""Real autopkgtest runs on real packages, through the virt server."""

import hashlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from incus_testbed.client import Incus

from .conftest import Cli

_PACKAGES = Path(__file__).resolve().parents[1] / "packages"
_LIMIT = 900


@pytest.fixture(autouse=True)
def _nothing_left(incus: Incus) -> Iterator[None]:
    before = {record.name for record in incus.instances()}
    yield
    assert {record.name for record in incus.instances()} == before


def _autopkgtest(
    cli: Cli, output: Path, package: str, image: str, *options: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [
            "autopkgtest",
            "--apt-upgrade",
            "--no-built-binaries",
            f"--output-dir={output}",
            *options,
            _PACKAGES / package,
            "--",
            "incus-testbed",
            image,
        ],
        env=cli.environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_LIMIT,
        check=False,
    )


def _results(output: Path) -> dict[str, str]:
    """Return what autopkgtest's summary says of each test."""
    lines = (output / "summary").read_text().splitlines()
    return {
        name: " ".join(rest).split(" (")[0]
        for name, *rest in (line.split() for line in lines)
    }


def test_root_user_reboot_and_a_broken_system(
    cli: Cli, bookworm: str, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    done = _autopkgtest(cli, output, "hello-testbed", bookworm)
    assert _results(output) == {
        "as-root": "PASS",
        "as-user": "PASS",
        "breaks-system": "PASS",
        "across-reboot": "PASS",
    }, done.stderr
    assert done.returncode == 0


def test_odd_ends(cli: Cli, bookworm: str, tmp_path: Path) -> None:
    output = tmp_path / "output"
    done = _autopkgtest(cli, output, "odd-ends", bookworm, "--skip-test=sleeps")
    failed = "FAIL non-zero exit status"
    assert _results(output) == {
        "exit-0": "PASS",
        "exit-1": f"{failed} 1",
        "exit-77-not-skippable": f"{failed} 77",
        "exit-77-skippable": "SKIP exit status 77 and marked as skippable",
        "exit-100": f"{failed} 100",
        # 255 is the virt server's own failure: a test's is another one
        "exit-255": f"{failed} 253",
        "killed": f"{failed} 137",
        "background": "PASS",
        "flood": "PASS",
        "stdin": "PASS",
        "odd.name_1+2-3": "PASS",
        "environment": "PASS",
        "stderr-not-allowed": "FAIL stderr: to-stderr",
    }, done.stderr[-5000:]
    assert done.returncode == 6  # a test failed and another was skipped
    flood = hashlib.sha256((output / "flood-stdout").read_bytes()).hexdigest()
    line = b"0123456789abcdef\n"
    expected = (line * (100_000_000 // len(line) + 1))[:100_000_000]
    assert flood == hashlib.sha256(expected).hexdigest()
    # autopkgtest 6.0 has a folder for each test in there
    (artifact,) = (output / "artifacts").rglob("artifact")
    assert artifact.read_text() == "kept\n"


def test_image_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    output = tmp_path / "output"
    done = _autopkgtest(cli, output, "odd-ends", "artifact/absent")
    assert done.returncode == 16
    assert "incus-testbed images" in done.stderr


def test_a_test_that_takes_too_long(
    cli: Cli, bookworm: str, tmp_path: Path
) -> None:
    output = tmp_path / "output"
    done = _autopkgtest(
        cli,
        output,
        "odd-ends",
        bookworm,
        "--test-name=sleeps",
        "--timeout-test=5",
    )
    assert _results(output) == {"sleeps": "FAIL timed out"}, done.stderr
