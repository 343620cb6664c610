# SPDX-License-Identifier: GPL-3.0-or-later
"""Many at once."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from .runs import PACKAGES, Run, autopkgtest

_COUNT = 20


@pytest.mark.usefixtures("raised_kernel_limits", "nothing_left")
def test_twenty_at_once(bookworm: str, tmp_path: Path) -> None:
    """Each has two tests, with a revert between them."""

    def run(number: int) -> Run:
        return autopkgtest(
            *(tmp_path / str(number), bookworm, PACKAGES / "odd-ends"),
            *("--test-name=breaks", "--test-name=after-revert"),
        )

    began = time.monotonic()
    with ThreadPoolExecutor(_COUNT) as pool:
        runs = list(pool.map(run, range(_COUNT)))
    print(f"{_COUNT} runs took {time.monotonic() - began:.0f} s")
    for done in runs:
        assert done.results == {"breaks": "PASS", "after-revert": "PASS"}, (
            done.said[-3000:]
        )
        assert done.status == 0
