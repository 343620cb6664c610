# SPDX-License-Identifier: GPL-3.0-or-later
"""The Debian packages of this tree, built in a clean Debian."""

import contextlib
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from debian.deb822 import Deb822, PkgRelation

from incus_testbed.incus.client import Incus
from tests.e2e import guest
from tests.e2e.guest import Guest

ROOT = Path(__file__).resolve().parents[2]

_SCRIPTS = [
    Path(__file__).with_name("guest") / name for name in ("build.sh", "vary.sh")
]
#: What building takes beside what debian/control asks for, and what it takes
#: to build under other conditions.
_TOOLS = ("build-essential", "faketime", "locales")


class Builder:
    """A machine that has the source of this tree, and all to build it."""

    def __init__(self, machine: Guest) -> None:
        """Use a machine that has both."""
        self._machine = machine

    def build(self, directory: str, *conditions: str) -> dict[str, str]:
        """Build below a directory; return packages' names and SHA-256 sums.

        The conditions are a command that runs another.

        :raises errors.CommandFailed: they can't be built; details hold the
            end of the log
        """
        said = self._machine.run(
            *conditions, "/build/build.sh", "/build/source.tar", directory
        )
        lines = (line.split() for line in said.splitlines())
        return {name: digest for digest, name in lines}

    def build_otherwise(self) -> dict[str, str]:
        """Build under other conditions, which vary.sh lists."""
        return self.build("/home/other/somewhere/else", "/build/vary.sh")

    def pull(self, directory: str, target: Path) -> list[Path]:
        """Copy what was built there into a directory; return the files."""
        found = self._machine.run(
            *("find", directory, "-maxdepth", "1", "-type", "f")
        )
        return [self._machine.pull(path, target) for path in found.splitlines()]


@contextlib.contextmanager
def builder(incus: Incus, suite: str) -> Iterator[Builder]:
    """Have a builder that runs a Debian of that suite."""
    with (
        TemporaryDirectory() as scratch,
        guest.running(
            incus, suite, (*_TOOLS, *_build_dependencies())
        ) as machine,
    ):
        source = Path(scratch, "source.tar")
        pack(source)
        for file in (source, *_SCRIPTS):
            machine.push(file, "/build")
        yield Builder(machine)


def debs(incus: Incus, suite: str, target: Path) -> list[Path]:
    """Build the packages in a Debian of that suite, into a directory."""
    built = "/build/packages"
    with builder(incus, suite) as machine:
        # Their tests have been run, and are run by the packages' own.
        machine.build(built, "env", "DEB_BUILD_OPTIONS=nocheck")
        files = machine.pull(built, target)
    return [file for file in files if file.suffix == ".deb"]


def lintian(incus: Incus, suite: str, directory: Path) -> str:
    """Return all that a Debian's lintian says of what a build has made."""
    with guest.running(incus, suite, ("lintian",)) as machine:
        for file in directory.iterdir():
            machine.push(file, "/root/built")
        (changes,) = directory.glob("*.changes")
        return machine.run(
            *("lintian", "--allow-root", "--fail-on=none"),
            *("--tag-display-limit=0", "--display-info", "--pedantic"),
            *("--show-overrides", f"/root/built/{changes.name}"),
        )


def pack(target: Path) -> None:
    """Pack what git knows of the tree, and what it doesn't ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    with tarfile.open(target, "w") as tar:
        for name in listed.stdout.splitlines():
            if (ROOT / name).exists():
                tar.add(ROOT / name, name)


def _build_dependencies() -> Iterator[str]:
    control = Deb822((ROOT / "debian/control").read_text())
    wanted = control["Build-Depends"].strip().removesuffix(",")
    provided = {
        "debhelper-compat": "debhelper",
        "dh-sequence-python3": "dh-python",
    }
    for alternatives in PkgRelation.parse_relations(wanted):
        name = alternatives[0]["name"]
        yield provided.get(name, name)
