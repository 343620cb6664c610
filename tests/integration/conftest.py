# SPDX-License-Identifier: GPL-3.0-or-later
"""The commands under test."""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from incus_testbed.incus.client import Incus

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
