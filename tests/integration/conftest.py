# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands under test."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from incus_testbed.incus.client import Incus
from tests.support import daemon

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
def cli(incus: Incus) -> Cli:
    """Return the command, aimed at the Incus under test."""
    del incus
    return Cli(dict(os.environ))


@pytest.fixture(scope="module")
def own_daemon() -> Iterator[daemon.Daemon]:
    """Give a module an Incus of its own, with nothing set up.

    It has the machine's controllers of cgroups.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can start an Incus")
    with (
        daemon.private("", "controllers") as started,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name, value in started.environment.items():
            patch.setenv(name, value)
        patch.delenv("INCUS_PROJECT", raising=False)
        yield started
