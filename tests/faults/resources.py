# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is in an Incus and below it, to compare before and after."""

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path

from incus_testbed.incus.client import Incus
from tests.support.daemon import Daemon

#: What may come and go: bytes of the pool's bookkeeping, and connections that
#: incusd keeps for a while.
_SLACK = {"disk": 16 << 20, "descriptors": 20}


@dataclass(frozen=True, kw_only=True)
class Resources:
    """How many there are; ``disk`` is bytes used in the pool."""

    instances: int
    images: int
    mounts: int
    processes: int
    descriptors: int
    disk: int

    @classmethod
    def take(cls, daemon: Daemon, pool: str) -> "Resources":
        """Count what there is now of a private daemon's."""
        incusd = daemon.incusd()
        return cls(
            instances=len(Incus().instances()),
            images=len(Incus().images()),
            mounts=len(
                Path(f"/proc/{incusd}/mountinfo").read_text().splitlines()
            ),
            processes=_below(daemon.process),
            descriptors=len(list(Path(f"/proc/{incusd}/fd").iterdir())),
            disk=_used(pool),
        )

    def grown(self, later: "Resources") -> list[str]:
        """Say what there is more of later."""
        return [
            f"{name}: {before} before, {after} after"
            for name, before in vars(self).items()
            for after in [getattr(later, name)]
            if after > before + _SLACK.get(name, 0)
        ]


def _used(pool: str) -> int:
    answer = subprocess.run(
        ["incus", "query", f"/1.0/storage-pools/{pool}/resources"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        check=True,
    )
    return int(json.loads(answer.stdout)["space"]["used"])


def _below(process: int) -> int:
    """Count a process's descendants; one may end meanwhile."""
    listed = Path(f"/proc/{process}/task/{process}/children")
    try:
        children = listed.read_text().split()
    except OSError:
        return 0
    return sum(1 + _below(int(child)) for child in children)
