# SPDX-License-Identifier: GPL-3.0-or-later
"""The same Incus as a remote, over TLS, beside its socket on this machine.

    python3 -m tests.bench.remote [--suite SUITE] [--rounds N]

Local and remote take turns, and the ratio is that of their medians: others may
use the machine meanwhile.  Processor time is that of the programs and of the
daemon, without what runs in a guest.
"""

import argparse
import contextlib
import os
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from unittest.mock import patch

from tests.bench import process, servers
from tests.bench.cost import Cost, processor_time
from tests.bench.instances import import_system
from tests.bench.sample import OURS, shown, turns
from tests.contract.virt_server.server import Server
from tests.support import images, kernel_limits, remote
from tests.support.sandbox import sandbox

_LOCAL, _REMOTE = "local", "remote"
_COMMANDS = 50


def _cost(act: Callable[[], object]) -> Cost:
    began, used = time.monotonic(), processor_time()
    act()
    return Cost(
        seconds=time.monotonic() - began, processor=processor_time() - used
    )


def _steps() -> Iterator[tuple[str, Cost]]:
    """Measure each step once, with the server of the environment."""
    server = servers.served(OURS)
    yield "open to ready", _cost(partial(server.ask, "open"))
    yield f"{_COMMANDS} commands of a test", _cost(partial(_run, server))
    server.ask("close")
    server.quit()
    for package in servers.RUNS:
        for name, words in servers.SERVERS.items():
            run = partial(servers.autopkgtest, package, words)
            yield f"{package.step}: {name}", _cost(run)


def _run(server: Server) -> None:
    for _ in range(_COMMANDS):
        server.execute("true")


def measured(
    places: Mapping[str, Mapping[str, str]], rounds: int
) -> dict[str, dict[str, list[Cost]]]:
    """Return what each step took, by place; a place is its environment."""
    taken: dict[str, dict[str, list[Cost]]] = {}
    for _, place in turns(list(places), rounds):
        with patch.dict(os.environ, places[place]):
            for step, cost in _steps():
                of_step = taken.setdefault(step, {})
                of_step.setdefault(place, []).append(cost)
                print(f"{place}: {step}: {cost}", flush=True)
    return taken


def table(taken: Mapping[str, Mapping[str, list[Cost]]]) -> Iterator[str]:
    """Yield the lines of a table: medians, and remote beside local."""
    yield "| step | local | remote | processors, local | remote |"
    yield "|---|---:|---:|---:|---:|"
    for step, by_place in taken.items():
        cells = []
        for what in ("seconds", "processor"):
            here, there = (
                statistics.median(getattr(cost, what) for cost in costs)
                for costs in (by_place[_LOCAL], by_place[_REMOTE])
            )
            cells += [
                f"{shown(here)} s",
                f"{shown(there)} s ({there / here:.2f}x)",
            ]
        yield f"| {step} | {' | '.join(cells)} |"


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python3 -m tests.bench.remote")
    parser.add_argument("--rounds", type=int, default=5, metavar="TIMES")
    parser.add_argument("--suite", default="bookworm")
    arguments = parser.parse_args()
    system = images.build(arguments.suite)
    process.add_checkout()
    with contextlib.ExitStack() as stack:
        stack.enter_context(kernel_limits.for_many())
        mine = stack.enter_context(sandbox(f"{os.getpid()}"))
        os.environ["INCUS_PROJECT"] = mine.project
        import_system(system)
        far = stack.enter_context(remote.configured(dict(os.environ)))
        places = {_LOCAL: {}, _REMOTE: far}
        print("\n".join(table(measured(places, arguments.rounds))))


if __name__ == "__main__":
    main()
