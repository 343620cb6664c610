# SPDX-License-Identifier: GPL-3.0-or-later
"""A virt server's life by way of its protocol, and whole runs of autopkgtest.

Where lxcfs is missing, autopkgtest 5.49 can't see that a container has
rebooted: that step is then tried once and given up.
"""

import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from tests.bench import process
from tests.bench.instances import IMAGE, MANY, import_system, small_files
from tests.bench.sample import (
    OURS,
    VIRT_INCUS,
    VIRT_UNSHARE,
    Sample,
    timed,
    turns,
)
from tests.contract.virt_server.runs import PACKAGES
from tests.contract.virt_server.server import COMMAND, Server

_PROGRAMS = {OURS: COMMAND, VIRT_INCUS: "autopkgtest-virt-incus"}
#: What comes after "--" in autopkgtest's arguments, of those that use Incus.
SERVERS = {OURS: ["incus-testbed", IMAGE], VIRT_INCUS: ["incus", IMAGE]}
_TREE_MB = 50
#: Seconds after which a reboot counts as one that is never noticed.
_REBOOT_LIMIT = 20


@dataclass(frozen=True, kw_only=True)
class _Package:
    """A package, and which of its tests all contenders can run."""

    step: str
    name: str
    options: Sequence[str]


RUNS = (
    _Package(
        step="autopkgtest, a trivial test",
        name="odd-ends",
        options=["--no-built-binaries", "--test-name=stdin"],
    ),
    _Package(
        step="autopkgtest, ten trivial tests",
        name="ten-tests",
        options=["--no-built-binaries"],
    ),
    _Package(
        step="autopkgtest, one that builds the package",
        name="every-kind",
        options=["--apt-upgrade", "--test-name=build-needed"],
    ),
)


def measured(
    tarball: Path, suite: str, folder: Path, rounds: int
) -> Iterator[Sample]:
    """Measure each server so many times, in turns.

    ``tarball`` has a Debian of that suite.
    """
    import_system(tarball)
    trees = {
        f"copy {MANY} small files": folder / "small",
        f"copy {_TREE_MB} MB": folder / "source",
    }
    small, source = trees.values()
    small_files(small)
    _grow(source)
    can_reboot = dict.fromkeys(_PROGRAMS, True)
    for number, name in turns(list(_PROGRAMS), rounds):
        back = folder / f"{name}-{number}"
        yield from _life(name, trees, back)
        if can_reboot[name]:
            reboot = _reboot(name)
            can_reboot[name] = reboot.seconds is not None
            yield reboot
    servers = {
        **SERVERS,
        VIRT_UNSHARE: ["unshare", f"--tarball={tarball}", f"--release={suite}"],
    }
    for package in RUNS:
        for _, name in turns(list(servers), rounds):
            run = partial(autopkgtest, package, servers[name])
            yield timed(package.step, name, run)


def _grow(tree: Path) -> None:
    """Make a tree as sources have it: many small files, some large ones."""
    for number in range(100):
        (tree / f"{number}").mkdir(parents=True)
        for name, size in (("small", 4_000), ("middle", 46_000)):
            for copy in range(5):
                file = tree / f"{number}" / f"{name}-{copy}"
                file.write_bytes(os.urandom(size))
    rest = _TREE_MB * 1_000_000 - 100 * 5 * 50_000
    (tree / "large").write_bytes(os.urandom(rest))


def _life(name: str, trees: Mapping[str, Path], back: Path) -> Iterator[Sample]:
    server = served(name)
    (scratch,) = server.ask("open")
    server.ask("close")
    yield timed("open to ready", name, lambda: server.ask("open"))
    yield timed("a test's command", name, lambda: server.execute("true"))
    for step, tree in trees.items():
        there = f"{scratch}/{tree.name}/"
        down = partial(server.ask, "copydown", f"{tree}/", there)
        yield timed(f"{step} down", name, down)
        up = partial(server.ask, "copyup", there, f"{back}-{tree.name}/")
        yield timed(f"{step} up", name, up)
    yield timed("revert", name, lambda: server.ask("revert"))
    closed = timed("close", name, lambda: server.ask("close"))
    peak = process.peak_mib(server.process.pid)
    yield replace(closed, peak_mib=peak)
    server.quit()


def served(name: str) -> Server:
    """Start a contender's virt server."""
    return Server(IMAGE, program=_PROGRAMS[name], stderr=subprocess.DEVNULL)


def _reboot(name: str) -> Sample:
    """Time a reboot, in a testbed of its own: it may never be noticed."""
    server = served(name)
    server.ask("open")
    server.send("reboot")
    try:
        sample = timed("reboot", name, lambda: server.reply(_REBOOT_LIMIT))
    except AssertionError:
        server.process.terminate()
        server.end()
        return Sample(step="reboot", contender=name, seconds=None)
    server.ask("close")
    server.quit()
    return sample


def autopkgtest(package: _Package, server: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as output:
        done = subprocess.run(
            [
                *("autopkgtest", *package.options),
                *(f"--output-dir={output}/o", PACKAGES / package.name),
                *("--", *server),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
