# SPDX-License-Identifier: GPL-3.0-or-later
"""Real autopkgtest runs: every kind of package, test, option and limit."""

import hashlib
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from .runs import PACKAGES, autopkgtest
from .server import environment

_GREETING = "--env=GREETING=hello  'world'"
_EVERY_KIND = {
    "installed": "PASS",
    "build-needed": "PASS",
    "login-session": "PASS",
    "environment": "PASS",
    "noisy": "PASS",
    "skips": "SKIP exit status 77 and marked as skippable",
    "internet": "PASS",
    "breaks": "PASS",
    "after-revert": "PASS",
    "reboots": "PASS",
}

pytestmark = pytest.mark.usefixtures("nothing_left")


@pytest.fixture(scope="module")
def builder(image: Callable[..., str]) -> str:
    """Return the alias of an image in which packages can be built.

    It has all that autopkgtest and the tests of every-kind would install.
    """
    return image(
        *("bookworm", "apt-utils", "build-essential", "dbus", "debhelper"),
        *("fakeroot", "libpam-systemd"),
    )


@pytest.fixture(scope="module")
def every_kind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the .dsc of the package that has tests of every kind."""
    tree = tmp_path_factory.mktemp("source") / "every-kind"
    shutil.copytree(PACKAGES / "every-kind", tree)
    return _dsc(tree)


def _dsc(tree: Path) -> Path:
    """Return the .dsc of a source package that is made of a tree."""
    subprocess.run(
        ["dpkg-source", "--build", tree],
        cwd=tree.parent,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    (dsc,) = tree.parent.glob("*.dsc")
    return dsc


@pytest.fixture(scope="module")
def changes(every_kind: Path, builder: str) -> Path:
    """Return the .changes of a build by sbuild in a testbed."""
    # By itself it looks for programs in the system's own folders only.
    configuration = every_kind.parent / "sbuildrc"
    configuration.write_text("$path = $ENV{PATH};\n1;\n")
    done = subprocess.run(
        [
            *("sbuild", "--chroot-mode=autopkgtest", "--dist=bookworm"),
            "--autopkgtest-virt-server=autopkgtest-virt-incus-testbed",
            f"--autopkgtest-virt-server-opt={builder}",
            *("--source", "--arch-all", "--no-run-lintian", "--verbose"),
            *("--no-run-piuparts", "--no-run-autopkgtest", every_kind),
        ],
        cwd=every_kind.parent,
        env=environment(SBUILD_CONFIG=str(configuration)),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    (made,) = every_kind.parent.glob("*.changes")
    return made


def test_machine_is_needed(tmp_path: Path, builder: str) -> None:
    """A container is none, and autopkgtest says so."""
    run = autopkgtest(
        tmp_path,
        builder,
        *("--test-name=own-kernel", "-B", f"{PACKAGES}/machine/"),
    )
    assert run.status == 8, run.said
    assert run.results["own-kernel"] == (
        'SKIP Test restriction "isolation-machine" requires testbed capability'
        ' "isolation-machine"'
    )


def test_source_package(builder: str, every_kind: Path, tmp_path: Path) -> None:
    """It is built in the testbed; the locale is given by an option."""
    run = autopkgtest(
        *(tmp_path / "output", builder, _GREETING, "--env=LANG=C.UTF-8"),
        every_kind,
    )
    assert run.results == _EVERY_KIND, run.said[-5000:]
    assert run.status == 2  # one was skipped


def test_changes_with_packages_that_sbuild_made(
    builder: str, changes: Path, tmp_path: Path
) -> None:
    """Set up before the tests, with a reboot in it; apt's lists are new."""
    run = autopkgtest(
        *(tmp_path / "output", builder, "-U", _GREETING, changes),
        "--test-name=installed",
        "--test-name=environment",
        "--setup-commands=echo LANG=C.UTF-8 >/etc/default/locale;"
        " touch /boot/changed",
    )
    assert run.results == {"installed": "PASS", "environment": "PASS"}, (
        run.said[-5000:]
    )
    assert run.status == 0
    assert "rebooting testbed after setup commands" in run.said


def test_unbuilt_tree(builder: str, tmp_path: Path) -> None:
    run = autopkgtest(
        *(tmp_path / "output", builder),
        *(PACKAGES / "every-kind", "--test-name=build-needed"),
    )
    assert run.results == {"build-needed": "PASS"}, run.said[-5000:]
    assert run.status == 0


def test_built_tree(bookworm: str, tmp_path: Path) -> None:
    """Of tests as root and user, a reboot, and a broken system."""
    run = autopkgtest(
        *(tmp_path / "output", bookworm, "--apt-upgrade"),
        *("--no-built-binaries", PACKAGES / "hello-testbed"),
    )
    assert run.results == {
        "as-root": "PASS",
        "as-user": "PASS",
        "breaks-system": "PASS",
        "across-reboot": "PASS",
    }, run.said[-5000:]
    assert run.status == 0


def test_every_end_of_a_test(bookworm: str, tmp_path: Path) -> None:
    run = autopkgtest(
        *(tmp_path / "output", bookworm, "--skip-test=sleeps"),
        *("--no-built-binaries", PACKAGES / "odd-ends"),
    )
    failed = "FAIL non-zero exit status"
    assert run.results == {
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
        "breaks": "PASS",
        "after-revert": "PASS",
    }, run.said[-5000:]
    assert run.status == 6  # a test failed and another was skipped
    flood = hashlib.sha256((run.output / "flood-stdout").read_bytes())
    line = b"0123456789abcdef" * 64 + b"\n"
    expected = (line * (100_000_000 // len(line) + 1))[:100_000_000]
    assert flood.digest() == hashlib.sha256(expected).digest()
    # autopkgtest 6.0 has a folder for each test in there
    (artifact,) = (run.output / "artifacts").rglob("artifact")
    assert artifact.read_text() == "kept\n"


def test_that_takes_too_long(bookworm: str, tmp_path: Path) -> None:
    run = autopkgtest(
        *(tmp_path / "output", bookworm, "--timeout-test=3"),
        *(PACKAGES / "odd-ends", "--test-name=sleeps"),
    )
    assert run.results == {"sleeps": "FAIL timed out"}, run.said[-5000:]


def test_build_that_takes_too_long(builder: str, tmp_path: Path) -> None:
    tree = tmp_path / "every-kind"
    shutil.copytree(PACKAGES / "every-kind", tree)
    with (tree / "debian/rules").open("a") as rules:
        rules.write("\noverride_dh_link:\n\tsleep 60\n")
    run = autopkgtest(
        *(tmp_path / "output", builder, "--timeout-build=10", _dsc(tree)),
        "--test-name=build-needed",
    )
    assert run.status in {16, 20}, run.said[-3000:]  # 20: autopkgtest 6.0
    assert "timed out" in run.said
    assert "incus_testbed/" not in run.said  # no traceback of ours


def test_copy_that_takes_too_long(bookworm: str, tmp_path: Path) -> None:
    tree = tmp_path / "odd-ends"
    shutil.copytree(PACKAGES / "odd-ends", tree)
    with (tree / "large").open("wb") as large:
        large.truncate(4_000_000_000)
    run = autopkgtest(
        *(tmp_path / "output", bookworm, "--timeout-copy=1"),
        *("--no-built-binaries", tree, "--test-name=exit-0"),
    )
    assert run.status == 16, run.said[-3000:]
    assert "timeout" in run.said or "timed out" in run.said


def test_image_that_is_absent(tmp_path: Path) -> None:
    run = autopkgtest(
        *(tmp_path / "output", "artifact/absent", PACKAGES / "odd-ends")
    )
    assert run.status == 16
    assert re.search("incus-testbed( --remote=far)? images", run.said)
