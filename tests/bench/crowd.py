# SPDX-License-Identifier: GPL-3.0-or-later
"""Testbeds side by side: how long until so many have worked and are gone."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from incus_testbed.client import Incus
from tests.bench.instances import import_system
from tests.bench.sample import OURS, VIRT_INCUS, Sample, timed, turns
from tests.bench.servers import served

_COUNTS = (1, 2, 4, 8, 16, 32)
#: Seconds for one of many to open.
_LIMIT = 600


def measured(tarball: Path, rounds: int) -> Iterator[Sample]:
    """Have ever more at once, in turns, half so many times: it takes long."""
    import_system(tarball)
    for count in _COUNTS:
        step = f"{count} testbeds at once" if count > 1 else "a testbed"
        for _, name in turns((OURS, VIRT_INCUS), (rounds + 1) // 2):
            yield timed(step, name, partial(_crowd, name, count))


def _crowd(name: str, count: int) -> None:
    with ThreadPoolExecutor(count) as pool:
        list(pool.map(lambda _: _work(name), range(count)))
    while Incus().instances():  # ours outlive their server for a moment
        time.sleep(0.05)


def _work(name: str) -> None:
    """Open a testbed, run a command, and close it."""
    server = served(name)
    server.send("open")
    assert server.reply(_LIMIT)[:1] == ["ok"]
    assert server.execute("true").returncode == 0
    server.ask("close")
    server.quit()
