# SPDX-License-Identifier: GPL-3.0-or-later
"""The Debian packages of this tree, built in a clean Debian."""

import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path

from debian.deb822 import Deb822, PkgRelation

from incus_testbed.client import Incus
from tests.e2e import guest

_ROOT = Path(__file__).resolve().parents[2]
_SCRIPT = Path(__file__).with_name("guest") / "build.sh"


@dataclass(frozen=True)
class Packages:
    """Binary packages, and what lintian says of them."""

    files: tuple[Path, ...]
    lintian: str


def build(incus: Incus, suite: str, directory: Path) -> Packages:
    """Build the packages twice, in a Debian of that suite, into a directory.

    :raises errors.CommandFailed: they can't be built, or differ
    """
    source = directory / "source.tar"
    pack(source)
    with guest.running(incus, suite, _build_dependencies()) as machine:
        machine.push(source, "/root")
        machine.push(_SCRIPT, "/root")
        lintian = machine.run("/root/build.sh", "/root/source.tar")
        files = tuple(
            machine.pull(path, directory)
            for path in machine.run("find", "/root/built").splitlines()
            if path.endswith(".deb")
        )
    return Packages(files, lintian)


def pack(target: Path) -> None:
    """Pack what git knows of the tree, and what it doesn't ignore."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=_ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    with tarfile.open(target, "w") as tar:
        for name in listed.stdout.splitlines():
            if (_ROOT / name).exists():
                tar.add(_ROOT / name, name)


def _build_dependencies() -> tuple[str, ...]:
    control = Deb822((_ROOT / "debian/control").read_text())
    wanted = PkgRelation.parse_relations(control["Build-Depends"])
    names = [alternatives[0]["name"] for alternatives in wanted]
    provided = {
        "debhelper-compat": "debhelper",
        "dh-sequence-python3": "dh-python",
    }
    return (
        "build-essential",
        "lintian",
        *(provided.get(name, name) for name in names),
    )
