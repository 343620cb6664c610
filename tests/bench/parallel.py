# SPDX-License-Identifier: GPL-3.0-or-later
"""Testbeds side by side: how long until so many have worked and are gone.

The floor is the bare incus commands.  The time of processors is that of the
virt server and all that it starts, also what removes a testbed after it.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

from incus_testbed.incus.client import Incus
from tests.bench import process
from tests.bench.instances import Bare, import_system
from tests.bench.sample import FLOOR, OURS, VIRT_INCUS, Sample, timed, turns
from tests.bench.servers import served

_COUNTS = (1, 2, 4, 8, 16, 32)
#: Seconds for one of many to open.
_LIMIT = 600


def measured(tarball: Path, rounds: int) -> Iterator[Sample]:
    """Have ever more at once, in turns, half so many times: it takes long."""
    import_system(tarball)
    _bare()  # the first launch unpacks the image, whoever makes it
    with process.adopting():
        for count in _COUNTS:
            step = f"{count} testbeds at once" if count > 1 else "a testbed"
            for _, name in turns((OURS, FLOOR, VIRT_INCUS), (rounds + 1) // 2):
                yield _sample(step, name, count)


def _sample(step: str, name: str, count: int) -> Sample:
    """Time a crowd; autopkgtest's own server fails to open now and then."""
    before = process.children_time()
    try:
        sample = timed(step, name, partial(crowd, name, count))
        spent = process.children_time() - before
        return replace(sample, processor=spent / count)
    except AssertionError:
        if name != VIRT_INCUS:
            raise
        for record in Incus().instances():
            Incus().delete(record.name)
        return Sample(step=step, contender=name, seconds=None)


def crowd(name: str, count: int) -> None:
    """Have so many testbeds at once, each with a command; see them gone."""
    work = _bare if name == FLOOR else partial(_work, name)
    with ThreadPoolExecutor(count) as pool:
        for done in [pool.submit(work) for _ in range(count)]:
            done.result()
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


def _bare() -> None:
    life = Bare()
    life.start()
    life.run(1)
    life.remove()
