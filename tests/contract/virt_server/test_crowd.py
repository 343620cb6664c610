# SPDX-License-Identifier: GPL-3.0-or-later
"""Many at once."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .runs import PACKAGES, Run, autopkgtest

_COUNT = 20


@pytest.mark.usefixtures("room_for_many", "nothing_left")
def test_twenty_runs_at_once(bookworm: str, tmp_path: Path) -> None:
    """Two tests each, one of which breaks its system."""

    def run(number: int) -> Run:
        return autopkgtest(
            *(tmp_path / str(number), bookworm, "--no-built-binaries"),
            *("--test-name=as-root", "--test-name=breaks-system"),
            PACKAGES / "hello-testbed",
        )

    start = time.monotonic()
    with ThreadPoolExecutor(_COUNT) as pool:
        runs = list(pool.map(run, range(_COUNT)))
    print(f"{_COUNT} runs: {time.monotonic() - start:.0f} s")
    for each in runs:
        assert each.results == {"as-root": "PASS", "breaks-system": "PASS"}, (
            each.said[-5000:]
        )
        assert each.status == 0
