# SPDX-License-Identifier: GPL-3.0-or-later
"""Time a work request with Debusine's own executor and with ours.

    python3 -m tests.e2e.compare

prints a table, and writes it as JSON to $E2E_COMPARISON if that is set.  The
same autopkgtest request runs on the same worker four times: with each
executor when the environment's image is not in Incus yet ("cold"), and again.
"""

import json
import os
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from incus_testbed.incus.client import Incus
from tests.e2e.debusine import RequestFailed
from tests.e2e.installation import GENERATIONS, Installation, installed
from tests.support import own_project

#: The one of hello-testbed's tests that needs no reboot, no revert and no
#: system without failed units.
_TESTS = ["as-user"]

_EXECUTORS = ("Debusine's", "ours")


@dataclass(frozen=True)
class Run:
    """A run of the work request; times are in seconds.

    ``image`` is the time until Incus had the image; 0 where it had it before.
    """

    debian: str
    executor: str
    start: str
    image: float
    total: float


def compare(site: Installation) -> Iterator[Run]:
    """Run the work request with each executor, cold and warm."""
    site.worker.use_ours()
    site.set_up()
    choices = (site.worker.use_upstreams, site.worker.use_ours)
    for executor, choose in zip(_EXECUTORS, choices, strict=True):
        choose()
        _forget_image(site)
        for start in ("cold", "warm"):
            run = _run(site, executor, start)
            print(f"compare: {run}", file=sys.stderr, flush=True)
            yield run


def _run(site: Installation, executor: str, start: str) -> Run:
    request = site.debusine.complete(
        "autopkgtest",
        site.task(
            input={"source_artifact": site.source, "binary_artifacts": []},
            include_tests=_TESTS,
            **site.architecture,
        ),
    )
    image = (_imported(site) - request.started).total_seconds()
    return Run(
        debian=site.generation.suite,
        executor=executor,
        start=start,
        image=max(0.0, image),
        total=request.seconds,
    )


def _imported(site: Installation) -> datetime:
    """Return when Incus got the environment's image."""
    (image,) = json.loads(
        site.guest.run("incus", "image", "list", "--format=json")
    )
    return datetime.fromisoformat(image["uploaded_at"])


def _forget_image(site: Installation) -> None:
    """Remove the environment's image from Incus and Debusine's cache."""
    site.guest.run(
        *("sh", "-c"),
        "incus image list --format=csv --columns=F |"
        " xargs --no-run-if-empty incus image delete;"
        " rm -rf /var/lib/debusine/worker/system-images/*",
    )


def table(runs: list[Run]) -> str:
    """Return the runs as a table, those that differ in executor in a row."""
    found = {(run.debian, run.start, run.executor): run for run in runs}
    rows = [
        (
            "Debian",
            "start",
            *(f"image, {who}" for who in _EXECUTORS),
            *(f"total, {who}" for who in _EXECUTORS),
        )
    ]
    for debian, start in dict.fromkeys((run.debian, run.start) for run in runs):
        pair = [found[debian, start, who] for who in _EXECUTORS]
        rows.append(
            (
                *(debian, start),
                *(f"{run.image:.1f} s" for run in pair),
                *(f"{run.total:.1f} s" for run in pair),
            )
        )
    return "\n".join(
        f"{row[0]:8}{row[1]:6}" + "".join(f"{cell:>20}" for cell in row[2:])
        for row in rows
    )


def main() -> int:
    """Compare on every generation; give the exit status."""
    return own_project.status(_compare_all, RequestFailed)


def _compare_all() -> int:
    runs: list[Run] = []
    for generation in GENERATIONS:
        with installed(Incus(), generation) as site:
            runs += compare(site)
    print(table(runs))
    if path := os.environ.get("E2E_COMPARISON"):
        Path(path).write_text(json.dumps([asdict(run) for run in runs]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
