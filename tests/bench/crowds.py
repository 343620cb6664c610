# SPDX-License-Identifier: GPL-3.0-or-later
"""Crowds of testbeds, one directly after the other, in pools of btrfs.

Each kind of quotas has a new pool for each contender.  The floor is the bare
incus commands.
"""

import contextlib
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from incus_testbed.host import pool
from incus_testbed.incus.client import Incus
from tests.bench import process
from tests.bench.instances import import_system
from tests.bench.parallel import crowd
from tests.bench.sample import FLOOR, OURS, Sample, timed
from tests.support import inside
from tests.support.sandbox import Sandbox, delete

#: How many testbeds at once.
_SIZE = 16
_SIMPLE, _FULL, _NONE = "simple quotas", "full quotas", "no size"
#: How quotas are enabled, if they are.
_OPTIONS: dict[str, tuple[str, ...]] = {_SIMPLE: ("--simple",), _FULL: ()}
_ROOT = ("profile", "device", "set", "debusine", "root")


def measured(mine: Sandbox, tarball: Path, rounds: int) -> Iterator[Sample]:
    """Have so many crowds in each pool."""
    import_system(tarball)
    profile = Incus().profile("debusine")["devices"]["root"]
    try:
        with process.adopting():
            for kind in (_SIMPLE, _FULL, _NONE):
                size = "" if kind == _NONE else profile["size"]
                for name in (OURS, FLOOR):
                    with _pool(f"{mine.names.pool}-crowds", kind, size):
                        for number in range(rounds):
                            yield timed(
                                f"{kind}, crowd {number + 1} of {_SIZE}",
                                name,
                                partial(crowd, name, _SIZE),
                            )
    finally:
        Incus().run(
            *_ROOT, *(f"{key}={profile[key]}" for key in ("pool", "size"))
        )


@contextlib.contextmanager
def _pool(name: str, kind: str, size: str) -> Iterator[None]:
    """Have testbeds in a new pool with such quotas, and of such a size."""
    Incus().run("storage", "create", name, "btrfs", "size=30GiB")
    try:
        if kind in _OPTIONS:
            enable = ("btrfs", "quota", "enable", *_OPTIONS[kind])
            place = pool.state_directory() / "storage-pools" / name
            subprocess.run(inside.command(*enable, str(place)), check=True)
        Incus().run(*_ROOT, f"pool={name}", f"size={size}")
        yield
    finally:
        Incus().run(*_ROOT, f"pool={name.removesuffix('-crowds')}")
        delete("storage", name)
