# SPDX-License-Identifier: GPL-3.0-or-later
"""A server on another machine, which lacks programs that this one has.

It is a private Incus that is reached over TLS alone, on the loopback.
"""

import contextlib
import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support import daemon, remote, tiny_system
from tests.support.sandbox import sandbox

from .conftest import SERVER, Cli

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 and not os.environ.get("CI"),
    reason="only root can start a private Incus",
)

_ALIAS = "there/bookworm"


@dataclass(frozen=True)
class Farm(Cli):
    """The command, in an environment in which only --remote=far works.

    ``programs`` is the folder of the programs that the server has.
    """

    programs: Path

    @contextlib.contextmanager
    def lacking(self, *names: str) -> Iterator[None]:
        """Have the server lack more programs."""
        links = [self.programs / name for name in names]
        targets = [link.readlink() for link in links]
        for link in links:
            link.unlink()
        try:
            yield
        finally:
            for link, target in zip(links, targets, strict=True):
                link.symlink_to(target)

    def incus(self, *words: str) -> None:
        """Run the incus command, which has to succeed."""
        subprocess.run(
            ["incus", *words],
            stdin=subprocess.DEVNULL,
            env=self.environment,
            check=True,
        )


@pytest.fixture(scope="module")
def farm() -> Iterator[Farm]:
    """Start a server without zstd, set up in a project of its own."""
    virt = str(Path(SERVER).parent)
    with (
        daemon.private(lacking=["zstd"]) as there,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("PATH", virt, prepend=os.pathsep)
        patch.setenv("PYTHONPATH", virt, prepend=os.pathsep)
        for name in ("INCUS_PROJECT", "INCUS_REMOTE", "INCUS_SOCKET"):
            patch.delenv(name, raising=False)
        for name, value in there.environment.items():
            patch.setenv(name, value)
        with (
            sandbox(f"{os.getpid()}f") as mine,
            remote.configured(there.environment) as client,
        ):
            configuration = Path(client["INCUS_CONF"], "config.yml")
            text = configuration.read_text()
            configuration.write_text(
                text.replace(f"default-remote: {remote.NAME}\n", "")
            )
            home = Path(there.environment["INCUS_DIR"]).parent
            environment = dict(os.environ)
            del environment["INCUS_DIR"]
            yield Farm(
                {**environment, **client, "INCUS_PROJECT": mine.project},
                home / "programs",
            )


@pytest.fixture(scope="module")
def image(farm: Farm, bookworm_tarball: Path) -> str:
    """Import a system that can be launched; return what it was told."""
    done = farm.run(
        *("--remote=far", "import", str(bookworm_tarball)),
        f"--alias={_ALIAS}",
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Write a system that can be imported and unpacked, but does not boot."""
    tarball = tmp_path / "system.tar"
    tarball.write_bytes(tiny_system.tarball(tmp_path.name))
    return tarball


def test_a_server_without_zstd_gets_what_it_can_unpack(
    farm: Farm, image: str
) -> None:
    assert "apt install zstd" in image
    said = farm.output("--remote=far", "run", _ALIAS, "--", "hostname")
    assert said.startswith("testbed")


def test_an_import_that_finds_its_image_asks_nothing(
    farm: Farm, image: str, bookworm_tarball: Path
) -> None:
    del image
    words = ("import", str(bookworm_tarball), f"--alias={_ALIAS}")
    done = farm.run("--remote=far", "-vv", *words)
    assert done.returncode == 0
    assert "zstd" not in done.stderr.replace(str(bookworm_tarball), "")


def test_a_server_with_neither_zstd_nor_gzip(farm: Farm, tiny: Path) -> None:
    with farm.lacking("gzip"):
        done = farm.run("--remote=far", "import", str(tiny), "--alias=tiny/xz")
        assert done.returncode == 0, done.stderr
        assert "apt install zstd gzip" in done.stderr
        farm.incus("init", "far:tiny/xz", "far:unpacked")
    farm.incus("delete", "far:unpacked")


def test_a_program_that_the_server_has_lost(farm: Farm, tiny: Path) -> None:
    """The message says what to install there, not to import again."""
    farm.output("--remote=far", "import", str(tiny), "--alias=tiny/gz")
    with farm.lacking("gzip"):
        done = farm.run("--remote=far", "run", "tiny/gz", "--", "true")
    assert done.returncode == 125
    assert "The Incus server far lacks the program gzip" in done.stderr
    assert "On the server's machine: apt install gzip" in done.stderr
    assert "remove" not in done.stderr


def test_doctor_says_what_the_server_lacks(farm: Farm) -> None:
    said = farm.run("--remote=far", "doctor").stdout
    assert "lacks zstd" in said
    assert "On the server's machine: apt install zstd" in said


def test_a_remote_in_the_name_of_an_image(farm: Farm, tiny: Path) -> None:
    farm.output("import", str(tiny), "--alias=far:tiny/name")
    assert "tiny/name" in farm.output("--remote=far", "images")
    contradiction = farm.run("--remote=local", "remove", "far:tiny/name")
    assert contradiction.returncode == 1
    assert "name two servers" in contradiction.stderr
    farm.output("remove", "far:tiny/name")
    assert "tiny/name" not in farm.output("--remote=far", "images")


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("--remote=fra", "There are: far, local."),
        ("--remote=far --project=none", "See: incus project list far:"),
    ],
)
@pytest.mark.parametrize(
    "words", ["images", "status", "doctor", "run x -- true"]
)
def test_a_place_that_is_unknown(
    farm: Farm, words: str, place: str, said: str
) -> None:
    done = farm.run(*place.split(), *words.split())
    assert done.returncode in {1, 125}
    assert said in done.stderr


def test_a_user_of_this_machine_has_no_project_there(farm: Farm) -> None:
    there = Cli({**farm.environment, "INCUS_REMOTE": "far"})
    done = there.run("setup", "--restricted", "nobody")
    assert "far is another machine" in done.stderr
