# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of the real autopkgtest, and what they have found."""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = Path(__file__).resolve().parents[2] / "packages"
_LIMIT = 600


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run that has ended, and the folder that it wrote to."""

    status: int
    said: str
    output: Path

    @property
    def results(self) -> dict[str, str]:
        """What the summary says of each test."""
        lines = (self.output / "summary").read_text().splitlines()
        return {
            name: " ".join(rest).split(" (")[0]
            for name, *rest in (line.split() for line in lines)
        }


def autopkgtest(
    output: Path,
    image: str,
    *arguments: str | Path,
    server: Sequence[str] = (),
) -> Run:
    """Run autopkgtest to its end, without anything on standard input."""
    done = subprocess.run(
        [
            *("autopkgtest", f"--output-dir={output}", *arguments),
            *("--", "incus-testbed", *server, image),
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        timeout=_LIMIT,
        check=False,
    )
    return Run(status=done.returncode, said=done.stderr, output=output)
