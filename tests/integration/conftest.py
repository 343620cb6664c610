# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands under test, and images to run them on."""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from incus_testbed.client import Incus
from incus_testbed.image.store import Store

_VIRT = Path(__file__).resolve().parents[2] / "virt"

#: The virt server, as it is in the checkout.
SERVER = str(_VIRT / "autopkgtest-virt-incus-testbed")

#: Generous: it only keeps a hanging test from hanging the run.
_LIMIT = 600


@dataclass(frozen=True)
class Cli:
    """The incus-testbed command, as a user starts it."""

    environment: dict[str, str]

    def start(
        self, *arguments: str, **options: object
    ) -> "subprocess.Popen[str]":
        """Start it in the background."""
        return subprocess.Popen(  # type: ignore[call-overload, no-any-return]
            [sys.executable, "-m", "incus_testbed", *arguments],
            env=self.environment,
            text=True,
            **{"stdin": subprocess.DEVNULL, **options},
        )

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run it to its end, whatever that is."""
        child = self.start(
            *arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        output, said = child.communicate(timeout=_LIMIT)
        return subprocess.CompletedProcess(
            child.args, child.returncode, output, said
        )

    def output(self, *arguments: str) -> str:
        """Return what it prints; it has to succeed."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="session")
def incus(incus_environment: object) -> Incus:
    """Return a client of the Incus under test."""
    del incus_environment
    return Incus()


@pytest.fixture(scope="session")
def cli(incus: Incus) -> Cli:
    """Return the command, aimed at the Incus under test."""
    del incus
    return Cli(dict(os.environ))


@pytest.fixture(scope="session")
def image(
    incus: Incus, system_tarball: Callable[..., Path]
) -> Iterator[Callable[..., str]]:
    """Return what imports a suite with packages, once, and gives its alias."""
    store = Store(incus)
    imported: dict[tuple[str, ...], str] = {}

    def import_(suite: str, *packages: str) -> str:
        key = (suite, *packages)
        if key not in imported:
            alias = "test/" + "_".join(key)
            with system_tarball(suite, *packages).open("rb") as source:
                store.add(source, alias)
            imported[key] = alias
        return imported[key]

    yield import_
    for alias in imported.values():
        store.remove(alias)


@pytest.fixture(scope="session")
def bookworm(image: Callable[..., str]) -> str:
    """Return the alias of a plain bookworm."""
    return image("bookworm")


@pytest.fixture(scope="session")
def bookworm_tarball(system_tarball: Callable[..., Path]) -> Path:
    """Return a plain bookworm before it is imported."""
    return system_tarball("bookworm")
